"""Files that come as descriptors: read through them, and all of them closed."""

from __future__ import annotations

import base64
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.control import MemoryOperations
from tests.rawclient import Raw
from tests.support import eventually
from tests.unit.server.held import open_on, opened


def test_files_are_read_through_their_descriptors(
    raw: Raw, operations: MemoryOperations, tmp_path: Path
) -> None:
    names = ["b", "a", "caf\u00e9"]
    with ExitStack() as stack:
        for name in names:
            (tmp_path / name).write_text(f"in {name}")
        fds = tuple(opened(stack, tmp_path / name) for name in names)
        files = [
            {"descriptor": place, "source": str(tmp_path / names[place])} for place in (2, 0, 1)
        ]
        answer = raw.call("Send", {"files": files, "route": "scope3"}, fds)
    assert [one["path"] for one in answer["parameters"]["files"]] == ["caf\u00e9", "b", "a"]
    assert operations.contents == ["in caf\u00e9".encode(), b"in b", b"in a"]
    assert operations.sent[0].uid == os.geteuid()
    eventually(lambda: all(open_on(tmp_path / name) == 0 for name in names))


def test_253_descriptors_go_at_once(raw: Raw, operations: MemoryOperations, trace: Path) -> None:
    with ExitStack() as stack:
        fds = tuple(opened(stack, trace) for _ in range(253))
        files = [{"descriptor": place, "source": str(trace)} for place in range(253)]
        assert len(raw.call("Send", {"files": files}, fds)["parameters"]["files"]) == 253
    assert operations.contents == [b"volts"] * 253
    eventually(lambda: open_on(trace) == 0)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("Send", {"files": [{"descriptor": 0, "source": "/x"}]}),
        ("Send", {"files": "wrong"}),
        ("Send", {"files": [{"descriptor": 0}], "route": "locked"}),
        ("GetStatus", {}),
        ("Nothing", {}),
    ],
)
def test_unused_descriptors_are_closed(
    raw: Raw, trace: Path, method: str, parameters: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        raw.call(method, parameters, tuple(opened(stack, trace) for _ in range(5)))
        eventually(lambda: open_on(trace) == 5)  # this test's own


def test_descriptors_of_an_unfinished_request_are_closed(served: Path, trace: Path) -> None:
    with ExitStack() as stack:
        descriptor = opened(stack, trace)
        with Raw(served) as client:
            socket.send_fds(client.socket, [b'{"method'], [descriptor])
            eventually(lambda: open_on(trace) == 2)
        eventually(lambda: open_on(trace) == 1)


def test_descriptors_beyond_one_message_are_refused(raw: Raw, trace: Path) -> None:
    with ExitStack() as stack:
        fds = [opened(stack, trace) for _ in range(200)]
        socket.send_fds(raw.socket, [b'{"method'], fds)
        socket.send_fds(raw.socket, [b'":'], fds)
        assert "descriptors" in raw.read()["parameters"]["text"]
        assert raw.closed()
        eventually(lambda: open_on(trace) == 200)


def test_descriptors_belong_to_one_request_in_flight(raw: Raw, trace: Path) -> None:
    frame = b'{"method":"io.kfd.Control.GetStatus"}\0'
    with ExitStack() as stack:
        socket.send_fds(raw.socket, [frame + frame], [opened(stack, trace)])
        assert "in flight" in raw.read()["parameters"]["text"]
        assert raw.closed()
        eventually(lambda: open_on(trace) == 1)


def special_files(stack: ExitStack, directory: Path, trace: Path) -> dict[str, int]:
    os.mkfifo(directory / "fifo")
    return {
        "not open for reading": opened(stack, trace, os.O_WRONLY),
        "not open": opened(stack, trace, os.O_PATH),
        "a pipe": opened(stack, directory / "fifo", os.O_RDONLY | os.O_NONBLOCK),
        "a directory": opened(stack, directory),
        "a device": opened(stack, Path("/dev/null")),
    }


def test_what_is_no_readable_regular_file_is_refused_alone(
    raw: Raw, operations: MemoryOperations, tmp_path: Path, trace: Path
) -> None:
    with ExitStack() as stack:
        special = special_files(stack, tmp_path, trace)
        fds = (*special.values(), opened(stack, trace, os.O_RDWR))
        files = [{"descriptor": place, "name": f"n{place}"} for place in range(len(fds))]
        answered = raw.call("Send", {"files": files}, fds)["parameters"]["files"]
    assert [one["path"] for one in answered] == [f"n{place}" for place in range(len(fds))]
    for reason, one in zip(special, answered[:-1], strict=True):
        assert reason in one["refused"]
        assert one["tid"] is None
    assert answered[-1]["refused"] == ""
    assert operations.contents == [b"volts"]


def test_an_owner_may_name_a_file(
    raw: Raw, operations: MemoryOperations, tmp_path: Path, trace: Path
) -> None:
    (tmp_path / "link").symlink_to(trace)
    os.mkfifo(tmp_path / "fifo")
    names = ["run42.trc", "link", "fifo", "missing"]
    files = [{"source": str(tmp_path / name)} for name in names]
    answered = raw.call("Send", {"files": files})["parameters"]["files"]
    refused = [one["refused"] for one in answered]
    assert refused[0] == ""
    assert "symbolic links" in refused[1]
    assert "a pipe" in refused[2]
    assert "No such file" in refused[3]
    assert operations.contents == [b"volts"]
    assert open_on(trace) == 0


def test_names_that_are_not_utf8_travel_as_base64(
    raw: Raw, operations: MemoryOperations, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    with open(path, "wb") as file:
        encoded = base64.b64encode(path).decode()
        given = {"descriptor": 0, "source_base64": encoded, "name": "n", "fallback": "d/n"}
        raw.call("Send", {"files": [given]}, (os.open(path, os.O_RDONLY),))
        assert file.closed is False
    (offered,) = operations.sent[0].files
    assert (offered.source, offered.name, offered.fallback) == (path, b"n", b"d/n")
