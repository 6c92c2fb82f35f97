"""The control server over a real Unix socket: limits, descriptors, permissions, hostile clients."""

from __future__ import annotations

import base64
import contextlib
import grp
import json
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import varlink

from kfd.control import METHODS, State
from kfd.daemon import channel, server
from kfd.daemon.operations import DrainProgress
from kfd.daemon.peer import Access, peer_of
from kfd.errors import ConfigError, PermissionProblemError
from kfd.varlink import MAX_REQUEST, SERVICE
from tests.control import VERSION, MemoryOperations, serving, transfer
from tests.privileges import unprivileged
from tests.support import eventually, unavailable

# Another user is another process: a fork, of a child that only asks and ends.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

NOBODY = 65534
TID = "00" * 12 + "9f2c41d7"


@pytest.fixture
def operations() -> MemoryOperations:
    return MemoryOperations()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "kfd.sock"


@pytest.fixture
def served(path: Path, operations: MemoryOperations) -> Iterator[Path]:
    with serving(path, operations):
        yield path


class Raw:
    """A client that can do what a decent one does not."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def call(
        self, method: str, parameters: object = None, fds: tuple[int, ...] = (), **flags: bool
    ) -> dict[str, Any]:
        self.write(method, parameters, fds, **flags)
        return self.read()

    def write(
        self, method: str, parameters: object = None, fds: tuple[int, ...] = (), **flags: bool
    ) -> None:
        message = {"method": f"io.kfd.Control.{method}", "parameters": parameters or {}} | flags
        socket.send_fds(self.socket, [json.dumps(message).encode() + b"\0"], fds)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        frame, _, self.buffer = self.buffer.partition(b"\0")
        answer = json.loads(frame)
        assert isinstance(answer, dict)
        return answer

    def rest(self) -> Iterator[dict[str, Any]]:
        """All replies until the server closes."""
        with contextlib.suppress(EOFError):
            while True:
                yield self.read()

    def closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def raw(served: Path) -> Iterator[Raw]:
    with Raw(served) as client:
        yield client


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run42.trc"
    path.write_bytes(b"volts")
    return path


def opened(stack: ExitStack, path: Path, flags: int = os.O_RDONLY) -> int:
    descriptor = os.open(path, flags)
    stack.callback(os.close, descriptor)
    return descriptor


def open_files() -> set[tuple[str, str]]:
    """The descriptors of this process, which is the server's too, and what they are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def open_on(path: Path) -> int:
    return sum(target == str(path) for _, target in open_files())


# --- an independent client ------------------------------------------------------------------


@pytest.fixture
def independent(served: Path) -> Iterator[Any]:
    with (
        varlink.Client(address=f"unix:{served}") as client,
        client.open("io.kfd.Control", namespaced=True) as connection,
    ):
        yield connection


def test_an_independent_client_calls_every_method(
    independent: Any, operations: MemoryOperations, trace: Path
) -> None:
    called = {
        "Send": independent.Send(files=[{"source": str(trace)}], meta={"run": "42"}),
        "GetStatus": independent.GetStatus(),
        "List": independent.List(limit=5),
    }
    tid = called["Send"].files[0].tid
    called["Wait"] = list(independent.Wait([tid], "in_kafka", _more=True))
    called["Quit"] = list(independent.Quit(_more=True))
    assert called.keys() == METHODS.keys()
    assert operations.contents == [b"volts"]
    assert operations.sent[0].meta == {"run": "42"}
    assert called["GetStatus"].status.version == VERSION
    assert [one.tid for one in called["List"].transfers] == [tid]
    assert called["Wait"][-1].transfers[0].state == "in_kafka"
    assert called["Quit"][-1].stopping is True
    assert operations.stopped.wait(10)


def test_an_independent_client_gets_errors_by_name(served: Path) -> None:
    with (
        varlink.Client(address=f"unix:{served}") as client,
        client.open("io.kfd.Control") as connection,
    ):
        with pytest.raises(varlink.VarlinkError) as caught:
            connection.Wait(["0" * 8], "in_kafka")
        assert caught.value.error() == "io.kfd.Control.NoSuchTransfer"
        with pytest.raises(varlink.VarlinkError) as caught:
            connection.List(limit=0)
        assert caught.value.error() == "org.varlink.service.InvalidParameter"


def test_the_service_says_what_it_is(served: Path) -> None:
    with varlink.Client(address=f"unix:{served}") as client:
        info = client.get_interfaces()
        assert set(info) >= {"io.kfd.Control", SERVICE}
        with client.open(SERVICE) as connection:
            assert connection.GetInfo()["version"] == VERSION
            assert "GetInfo" in connection.GetInterfaceDescription(SERVICE)["description"]


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("io.kfd.Control.Nothing", "MethodNotFound"),
        ("org.varlink.service.Nothing", "MethodNotFound"),
        ("io.kfd.Other.Status", "InterfaceNotFound"),
        ("Status", "InterfaceNotFound"),
        ("", "InterfaceNotFound"),
    ],
)
def test_what_is_not_there_is_told_by_name(raw: Raw, method: str, error: str) -> None:
    raw.socket.sendall(json.dumps({"method": method}).encode() + b"\0")
    assert raw.read()["error"] == f"{SERVICE}.{error}"
    assert "status" in raw.call("GetStatus")["parameters"]


@pytest.mark.parametrize(
    ("method", "parameters", "field"),
    [
        ("Send", {}, "files"),
        ("Send", {"files": []}, "files"),
        ("Send", {"files": [{"descriptor": 0}]}, "files[0].descriptor"),
        ("Send", {"files": [{"descriptor": -1}]}, "files[0].descriptor"),
        ("Send", {"files": [{}]}, "files[0]"),
        ("Send", {"files": [{"source": "relative"}]}, "files[0].source"),
        ("Send", {"files": [{"source": "/a", "source_base64": "L2E="}]}, "files[0].source"),
        ("Send", {"files": [{"source": "/a", "name": "a\0b"}]}, "files[0].name"),
        ("Send", {"files": [{"source": "/a"}], "meta": {"k": "v" * 4096}}, "meta"),
        ("Send", {"files": [{"source": "/a"}], "meta": {"k": "\0"}}, "meta"),
        ("Wait", {"tids": [], "until": "queued"}, "tids"),
        ("Wait", {"tids": ["xyz"], "until": "queued"}, "tids[0]"),
        ("List", {"limit": 10_001}, "limit"),
        ("Quit", {"timeout": -1}, "timeout"),
        ("GetStatus", {"verbose": True}, "verbose"),
    ],
)
def test_wrong_parameters_are_named(
    raw: Raw, method: str, parameters: dict[str, Any], field: str
) -> None:
    answer = raw.call(method, parameters)
    assert answer["error"] == f"{SERVICE}.InvalidParameter"
    assert answer["parameters"]["parameter"].startswith(f"{field}")
    assert "status" in raw.call("GetStatus")["parameters"]


# --- descriptors ----------------------------------------------------------------------------


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


# --- limits ---------------------------------------------------------------------------------


def test_half_a_request_is_given_up(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.2)
    with Raw(served) as client:
        client.socket.sendall(b'{"method":"io.kfd')
        assert "not finished" in client.read()["parameters"]["text"]
        assert client.closed()


def test_a_request_that_trickles_is_given_up(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the whole frame, not for each piece of it."""
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.3)
    with Raw(served) as client:
        client.socket.settimeout(0.05)

        def trickle() -> bool:
            try:
                client.socket.sendall(b" ")
                return bool(client.socket.recv(1))
            except TimeoutError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True

        eventually(trickle, deadline=10)


def test_a_silent_client_may_stay(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.05)
    with Raw(served) as client:
        client.call("GetStatus")
        with Raw(served) as other:  # ended by the limit that must not end the first
            other.socket.sendall(b"{")
            other.read()
        assert "status" in client.call("GetStatus")["parameters"]


def test_an_oversized_request_is_refused(raw: Raw) -> None:
    raw.socket.sendall(b" " * (MAX_REQUEST + 1))
    assert "longer" in raw.read()["parameters"]["text"]
    assert raw.closed()


def test_the_largest_request_is_taken(raw: Raw) -> None:
    frame = b'{"method":"io.kfd.Control.GetStatus"}'
    raw.socket.sendall(frame.ljust(MAX_REQUEST - 1) + b"\0")
    assert "status" in raw.read()["parameters"]


@pytest.mark.parametrize("frame", [b"[" * 60_000, b"\xff", b"{}", b"", b'{"method":5}'])
def test_what_is_no_request_ends_the_connection(served: Path, frame: bytes) -> None:
    with Raw(served) as client:
        client.socket.sendall(frame + b"\0")
        assert client.read()["error"] == "io.kfd.Control.Refused"
        assert client.closed()
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]


def test_requests_may_follow_one_another_at_once(raw: Raw) -> None:
    frame = b'{"method":"io.kfd.Control.GetStatus"}\0'
    raw.socket.sendall(frame * 50)
    assert all("status" in raw.read()["parameters"] for _ in range(50))


def test_one_user_has_at_most_16_connections(served: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(served)) for _ in range(16)]
        for client in clients:
            client.call("GetStatus")
        refused = stack.enter_context(Raw(served))
        assert "too many" in refused.read()["parameters"]["text"]
        assert refused.closed()
        clients[0].socket.close()
        eventually(lambda: _admitted(served))


def _admitted(path: Path) -> bool:
    with Raw(path) as client:
        try:
            return "error" not in client.call("GetStatus")
        except (BrokenPipeError, ConnectionResetError):
            return False


def test_one_connection_is_kept_for_root(
    path: Path, operations: MemoryOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    with serving(path, operations), ExitStack() as stack:
        let_all_in(path)
        with unprivileged():
            others = [stack.enter_context(Raw(path)) for _ in range(3)]
        assert "too many" in others[2].read()["parameters"]["text"]
        assert "status" in stack.enter_context(Raw(path)).call("GetStatus")["parameters"]


# --- permissions ----------------------------------------------------------------------------


def needs_root() -> None:
    if os.geteuid() != 0:
        unavailable("only root can be another user")


def let_all_in(path: Path) -> None:
    """Permissions of the file aside: what does the server itself say?"""
    path.chmod(0o666)
    for directory in path.parents:
        if directory.stat().st_uid == os.geteuid() and directory.name:
            directory.chmod(directory.stat().st_mode | 0o111)


def as_user(uid: int, groups: list[int], gid: int, work: Callable[[], object]) -> Any:
    """What ``work`` returns in a process of that user."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            os.write(write_end, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def ask_all(path: Path, trace: int) -> dict[str, Any]:
    calls: dict[str, Any] = {
        "Send": {"files": [{"descriptor": 0}]},
        "Wait": {"tids": [TID], "until": "queued"},
        "List": {"limit": 1},
        "GetStatus": {},
        "Quit": {"now": True},
    }
    answers = {}
    for method, parameters in calls.items():
        with Raw(path) as client:
            answers[method] = client.call(method, parameters, (trace,) if method == "Send" else ())
    with Raw(path) as client:
        answers["by name"] = client.call("Send", {"files": [{"source": "/etc/hostname"}]})
    return answers


def ask_as(path: Path, trace: Path, groups: list[int], gid: int) -> dict[str, str]:
    """The errors, by method, that user nobody gets."""
    with open(trace, "rb") as file:
        answers = as_user(NOBODY, groups, gid, lambda: ask_all(path, file.fileno()))
    return {method: answer.get("error", "") for method, answer in answers.items()}


@pytest.mark.parametrize(("groups", "gid"), [([1, 777], 888), ([1], 777)])
def test_a_member_may_send_and_look(
    path: Path, operations: MemoryOperations, trace: Path, groups: list[int], gid: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    needs_root()
    monkeypatch.setattr(server, "control_gid", lambda _: 777)
    operations.known[TID] = transfer(TID)
    with serving(path, operations, "lab"):
        let_all_in(path)
        errors = ask_as(path, trace, groups, gid)
    refused = "io.kfd.Control.NotPermitted"
    assert errors == {
        "Send": "", "Wait": "", "List": "", "GetStatus": "", "Quit": refused, "by name": refused,
    }  # fmt: skip
    assert operations.sent[0].uid == NOBODY
    assert not operations.stopped.is_set()


def test_a_stranger_may_nothing(
    path: Path, operations: MemoryOperations, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    monkeypatch.setattr(server, "control_gid", lambda _: 777)
    with serving(path, operations, "lab"):
        let_all_in(path)
        assert set(ask_as(path, trace, [1], 888).values()) == {"io.kfd.Control.NotPermitted"}
        answer = as_user(NOBODY, [], 888, lambda: Raw(path).call("GetStatus"))
    assert answer["parameters"] == {
        "text": f"nobody may not use {path}",
        "fix": "sudo usermod -aG lab nobody, then log in again",
    }
    assert operations.sent == []


def test_a_member_of_very_many_groups_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def groups() -> list[int]:
            a, b = socket.socketpair()
            with a, b:
                return sorted(peer_of(a).gids)

        many = list(range(5000, 5300))
        assert as_user(NOBODY, many, NOBODY, groups) == sorted(os.getgrouplist("nobody", NOBODY))
        assert as_user(NOBODY, many[:200], 7, groups) == [7, *many[:200]]


def test_the_daemons_own_user_may_all() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours).access(None) is Access.OWNER
        assert peer_of(ours).pid == os.getpid()


# --- the socket's file ----------------------------------------------------------------------


def mode_of(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def test_the_socket_is_for_the_group(path: Path, operations: MemoryOperations) -> None:
    group = grp.getgrnam("daemon") if os.geteuid() == 0 else grp.getgrgid(os.getegid())
    with serving(path, operations, group.gr_name):
        assert mode_of(path) == "srw-rw----"
        assert path.stat().st_gid == group.gr_gid
    assert not path.exists()


@pytest.mark.parametrize("group", [None, "", "no-such-group"])
def test_without_a_group_it_is_for_root_and_the_daemons_user(
    path: Path, operations: MemoryOperations, group: str | None
) -> None:
    with serving(path, operations, group):
        assert mode_of(path) == "srw-------"


def test_a_group_that_may_not_be_given_leaves_the_daemons_own(
    tmp_path: Path, operations: MemoryOperations
) -> None:
    needs_root()
    directory = tmp_path / "own"
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)
    for parent in directory.parents[:-1]:
        if parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o111)
    path = directory / "kfd.sock"
    code = as_user(NOBODY, [], NOBODY, lambda: _made_by_nobody(path, operations))
    assert code == ["srw-rw----", NOBODY]


def _made_by_nobody(path: Path, operations: MemoryOperations) -> list[object]:
    with serving(path, operations, "daemon"):
        return [mode_of(path), path.stat().st_gid]


def test_the_umask_stays_as_it_was(path: Path, operations: MemoryOperations) -> None:
    before = os.umask(0o027)
    try:
        with serving(path, operations):
            assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced(path: Path, operations: MemoryOperations) -> None:
    path.parent.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with serving(path, operations), Raw(path) as client:
        assert "status" in client.call("GetStatus")["parameters"]


def test_a_live_daemon_is_not_replaced(served: Path, operations: MemoryOperations) -> None:
    with pytest.raises(ConfigError, match="another kfd listens"), serving(served, operations):
        pass
    with Raw(served) as client:
        assert "status" in client.call("GetStatus")["parameters"]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_socket_is_not_removed(
    path: Path, operations: MemoryOperations, make: Callable[[Path], object]
) -> None:
    path.parent.mkdir()
    make(path)
    with pytest.raises(ConfigError, match="in the way"), serving(path, operations):
        pass
    assert os.path.lexists(path)


def test_a_socket_where_none_can_be_is_a_clear_error(
    tmp_path: Path, operations: MemoryOperations
) -> None:
    for bad in (tmp_path / ("x" * 120), tmp_path / "a" / "b" / "kfd.sock"):
        with pytest.raises(ConfigError, match="cannot be made"), serving(bad, operations):
            pass


def test_a_directory_that_may_not_be_written_is_a_clear_error(
    tmp_path: Path, operations: MemoryOperations
) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with (
        unprivileged(),
        pytest.raises((PermissionProblemError), match="cannot be made"),
        serving(tmp_path / "locked" / "kfd.sock", operations),
    ):
        pass


def test_a_socket_of_another_daemon_is_left_at_the_end(
    path: Path, operations: MemoryOperations
) -> None:
    with serving(path, operations):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.is_socket()
    other.close()


# --- streams, one-way calls and the end -----------------------------------------------------


def test_wait_streams_each_change_until_the_state(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.QUEUED)
    raw.write("Wait", {"tids": [TID[-8:]], "until": "in_kafka"}, more=True)
    seen = []
    for state in (State.SENDING, State.IN_KAFKA):
        seen.append(raw.read())
        operations.update(TID, state=state)
    last = raw.read()
    assert [one["parameters"]["transfers"][0]["state"] for one in seen] == ["queued", "sending"]
    assert all(one["continues"] for one in seen)
    assert "continues" not in last
    assert last["parameters"]["transfers"][0]["state"] == "in_kafka"


def test_wait_tells_of_bytes_that_move(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, done=0)
    raw.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
    raw.read()
    operations.move(TID, 500)
    assert raw.read()["parameters"]["transfers"][0]["done"] == 500


def test_others_changes_are_no_replies(raw: Raw, operations: MemoryOperations) -> None:
    other = TID[:-1] + "8"
    operations.known |= {TID: transfer(TID), other: transfer(other)}
    raw.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
    raw.read()
    for done in range(20):
        operations.update(other, done=done)
    operations.update(TID, state=State.FAILED, reason="gone")
    assert raw.read()["parameters"]["transfers"][0]["state"] == "failed"


def test_wait_without_more_answers_now(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID)
    answer = raw.call("Wait", {"tids": [TID], "until": "in_kafka"})
    assert answer["parameters"]["transfers"][0]["state"] == "sending"


def test_wait_for_a_receiver_ends_with_its_receipt(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.IN_KAFKA)
    raw.write("Wait", {"tids": [TID], "until": "delivered"}, more=True)
    assert raw.read()["parameters"]["transfers"][0]["state"] == "in_kafka"
    operations.update(TID, state=State.DELIVERED)
    last = raw.read()
    assert last["parameters"]["transfers"][0]["state"] == "delivered"
    assert not last.get("continues")


def test_a_client_that_goes_away_in_a_stream_is_noticed(
    served: Path, operations: MemoryOperations
) -> None:
    operations.known[TID] = transfer(TID)
    with Raw(served) as client:
        client.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
        client.read()
        assert connection_threads() == 1
    eventually(lambda: connection_threads() == 0)


def connection_threads() -> int:
    return sum(thread.name.startswith("control-") for thread in threading.enumerate())


def test_a_slow_reader_of_a_stream_is_told_and_dropped(
    served: Path, operations: MemoryOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SEND_TIMEOUT", 0.2)
    operations.known[TID] = transfer(TID, path="x" * 20_000)
    with Raw(served) as client:
        client.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
        client.read()

        def nudge() -> bool:
            sending = operations.known[TID].state is State.SENDING
            operations.update(TID, state=State.QUEUED if sending else State.SENDING)
            return connection_threads() == 0

        eventually(nudge)
        replies = list(client.rest())
        assert "not read" in replies[-1]["parameters"]["text"]
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]


def test_one_way_calls_are_done_and_not_answered(
    raw: Raw, operations: MemoryOperations, trace: Path
) -> None:
    raw.write("Send", {"files": [{"source": str(trace)}]}, oneway=True)
    raw.write("Nothing", oneway=True)
    assert "status" in raw.call("GetStatus")["parameters"]
    assert operations.contents == [b"volts"]


def test_quit_drains_with_progress_and_stops(raw: Raw, operations: MemoryOperations) -> None:
    operations.left = DrainProgress(2, 2000)
    raw.write("Quit", more=True)
    assert raw.read() == {
        "parameters": {"transfers": 2, "bytes": 2000, "stopping": False}, "continues": True,
    }  # fmt: skip
    assert operations.draining
    assert not operations.stopped.is_set()
    operations.set_left(0, 0)
    assert raw.read() == {"parameters": {"transfers": 0, "bytes": 0, "stopping": True}}
    assert operations.stopped.wait(10)


def test_quit_goes_on_without_its_client(served: Path, operations: MemoryOperations) -> None:
    operations.left = DrainProgress(2, 2000)
    with Raw(served) as client:
        client.write("Quit", more=True)
        client.read()
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]
    assert not operations.stopped.is_set()
    operations.set_left(0, 0)
    assert operations.stopped.wait(10)


@pytest.mark.parametrize("parameters", [{"now": True}, {"timeout": 0.1}])
def test_quit_leaves_the_rest_when_told(
    raw: Raw, operations: MemoryOperations, parameters: dict[str, Any]
) -> None:
    operations.left = DrainProgress(2, 2000)
    answer = raw.call("Quit", parameters)
    assert answer == {"parameters": {"transfers": 2, "bytes": 2000, "stopping": True}}
    assert operations.stopped.wait(10)
    assert operations.draining == ("timeout" in parameters)


def test_a_refusal_carries_its_fix_and_exit_code(raw: Raw, trace: Path) -> None:
    answer = raw.call("Send", {"files": [{"source": str(trace)}], "route": "locked"})
    assert answer == {
        "error": "io.kfd.Control.Refused",
        "parameters": {
            "text": "route locked takes no files", "fix": "set send: true", "exit_code": 1,
        },
    }  # fmt: skip


def test_a_bug_is_answered_and_logged_and_the_daemon_goes_on(
    served: Path, operations: MemoryOperations, caplog: pytest.LogCaptureFixture
) -> None:
    operations.failure = ZeroDivisionError("a secret")
    with Raw(served) as client:
        answer = client.call("GetStatus")
        assert answer["parameters"]["exit_code"] == 70
        assert "secret" not in json.dumps(answer)
        assert client.closed()
    assert "ZeroDivisionError" in caplog.text
    operations.failure = None
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]


def test_the_end_closes_every_connection(path: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID)
    before = open_files()
    with ExitStack() as stack:
        with serving(path, operations):
            silent, waiting = (stack.enter_context(Raw(path)) for _ in range(2))
            waiting.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
            waiting.read()
            silent.call("GetStatus")
        assert silent.closed()
        assert waiting.closed()
        assert not path.exists()
    assert connection_threads() == 0
    assert {target for _, target in open_files()} <= {target for _, target in before}


def test_no_descriptors_left_is_survived(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon's limit is reached: a client waits, and is served when there is room again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        client.connect(str(served))
        client.sendall(b'{"method":"io.kfd.Control.GetStatus"}\0')
        eventually(lambda: "cannot accept" in caplog.text)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with client:
        assert b"status" in client.recv(65536)


def test_random_bytes_do_no_harm(served: Path) -> None:
    pieces = [os.urandom(200) for _ in range(30)] + [b"\0" * 100, b'{"method":"' * 50]
    for piece in pieces:
        with Raw(served) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.socket.sendall(piece + b"\0")
            client.socket.shutdown(socket.SHUT_WR)
            while client.socket.recv(65536):
                pass
    assert connection_threads() <= 1
    with Raw(served) as client:
        assert "status" in client.call("GetStatus")["parameters"]
