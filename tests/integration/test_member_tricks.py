"""What a member of the control group may say of a file that isn't so, and may do with what isn't
his own: nothing is told, taken, held or ended by it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.attacks import NOBODY
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.openfiles import open_names
from tests.parts import mounted
from tests.privileges import unprivileged
from tests.rawclient import Raw
from tests.support import eventually

LINKS = 1200  # in one another; more than Python's functions may be

ELSEWHERE = [
    ({"name": ".kfd/owner"}, "belongs to kfd"),
    ({"name": "../out"}, "component of the path is '..'"),
    ({"name": "/etc/passwd"}, "starts with '/'"),
    ({"name": "a//b"}, "component of the path is empty"),
    ({"name": "x" * 256}, "more than 255 bytes"),
    ({"name": "/".join("x" * 33)}, "more than 32 components"),
    ({"fallback": "a/../b"}, "component of the path is '..'"),
    ({"source": "/"}, "it has no name"),
    ({"source": "/.kfd"}, "belongs to kfd"),
]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """No broker answers: what is sent stays in the queue. Nobody is a member."""
    one = make_host(control_group="root", bootstrap="127.0.0.1:1", receives=False, pools=ONE_READER)
    one.start()
    one.socket.parent.chmod(0o711)
    return one


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file of the member's."""
    path = tmp_path / "mine.trc"
    path.write_bytes(b"volts")
    os.chown(path, NOBODY, NOBODY)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def member(host: Host) -> Iterator[Raw]:
    with unprivileged():
        client = Raw(host.socket)
    with client:
        yield client


def offer(host: Host, descriptor: int, **file: Any) -> dict[str, Any]:
    """The answer to a file that is sent by a member."""
    with member(host) as client:
        request = {"files": [{"descriptor": 0, **file}], "route": "out"}
        answer = client.call("Send", request, (descriptor,))
    assert "error" not in answer, answer
    return dict(answer["parameters"]["files"][0])


def test_links_without_end(host: Host, mine: int, tmp_path: Path) -> None:
    """The kernel follows 40."""
    last = tmp_path / "mine.trc"
    for number in range(LINKS):
        link = tmp_path / f"link{number}"
        link.symlink_to(last)
        last = link
    assert offer(host, mine, source=str(last), fallback="run.trc")["path"] == "run.trc"
    assert "this is a bug" not in host.log()


def test_a_path_is_not_followed_for_who_has_not_opened_the_file(
    host: Host, mine: int, tmp_path: Path
) -> None:
    """Else its answer would tell what is behind a link that only the daemon sees."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "secret-of-anna").write_bytes(b"")
    (closed / "link").symlink_to("secret-of-anna")
    assert offer(host, mine, source=str(closed / "link"))["path"] == "link"
    below = host.up / "secret-of-bert"
    below.write_bytes(b"")
    (closed / "below").symlink_to(below)
    assert offer(host, mine, source=str(closed / "below"))["path"] == "below"


def test_a_path_without_links_has_its_name_in_the_routes_directory(
    host: Host, tmp_path: Path
) -> None:
    file = host.up / "a" / "run.trc"
    file.parent.mkdir()
    file.write_bytes(b"volts")
    (tmp_path / "elsewhere").symlink_to(host.up)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        through = str(tmp_path / "elsewhere" / "a" / ".." / "a" / "run.trc")
        assert offer(host, descriptor, source=through)["path"] == "a/run.trc"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["stat", "maps", "status"])
def test_what_depends_on_its_reader_is_not_read_for_a_member(host: Host, name: str) -> None:
    """Who may open ``/proc/PID/stat`` of the daemon sees less of it than the daemon does."""
    assert host.process is not None
    path = f"/proc/{host.process.pid}/{name}"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        answer = offer(host, descriptor, source=path, name="x")
    finally:
        os.close(descriptor)
    assert answer["tid"] is None
    assert "may depend on who reads it" in answer["refused"]
    assert host.transfers() == []


def test_a_stream_holds_no_descriptors(host: Host, mine: int, tmp_path: Path) -> None:
    """Sixteen connections would hold four thousand, for as long as they like."""
    tid = offer(host, mine, name="run.trc")["tid"]
    unused = os.open(tmp_path / "mine.trc", os.O_RDONLY)
    name = os.path.realpath(tmp_path / "mine.trc")
    with member(host) as client:
        wait = {"tids": [tid], "until": "delivered"}
        client.write("Wait", wait, (unused,) * 253, more=True)
        assert client.read()["continues"]
        eventually(lambda: open_names(host).count(name) == 0)
    os.close(unused)


def test_what_others_have_sent_is_theirs(host: Host, tmp_path: Path) -> None:
    host.put("watched.trc", b"volts")
    (tmp_path / "roots.trc").write_bytes(b"volts")
    sent = host.ctl("send", "--until", "queued", tmp_path / "roots.trc")
    assert sent.returncode == 0, sent.stderr
    eventually(lambda: len(host.transfers()) == 2)
    with member(host) as client:
        for tid in (one["tid"] for one in host.transfers()):
            for method, parameters in (("Cancel", {"tid": tid}), ("Retry", {"tids": [tid]})):
                answer = client.call(method, parameters)
                assert answer["error"] == "io.kfd.Control.NotPermitted", answer
    assert {one["state"] for one in host.transfers()} <= {"queued", "sending"}


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_a_file_that_changes_while_it_is_copied(host: Host, change: str) -> None:
    """It is copied as it is in one moment, or refused."""
    file = os.memfd_create("changing")
    os.truncate(file, 64 << 20)
    script = (
        "import os, sys, itertools\n"
        "for n in itertools.count():\n"
        f"    os.truncate(int(sys.argv[1]), (64 << 20) {'-' if change == 'shrinks' else '+'}"
        " n % 1000 * 4096)\n"
    )
    changer = subprocess.Popen([sys.executable, "-c", script, str(file)], pass_fds=[file])
    try:
        answer = offer(host, file, name="run.trc")
    finally:
        changer.kill()
        changer.wait()
        os.close(file)
    assert "it changed while it was copied" in answer["refused"] or answer["tid"]
    spooled = [path.stat().st_size for path in (host.state / "spool").iterdir()]
    assert spooled == ([answer["size"]] if answer["tid"] else [])
    used = host.status()["spool_used"]
    assert used == sum(-(-size // 4096) * 4096 for size in spooled)


def test_a_file_on_another_mount(host: Host, tmp_path: Path) -> None:
    """It is found there by its path, or copied."""
    with mounted(tmp_path / "other", "tmpfs", "size=1m") as other:
        (other / "run.trc").write_bytes(b"volts")
        (other / "run.trc").chmod(0o644)
        descriptor = os.open(other / "run.trc", os.O_RDONLY)
        try:
            there = offer(host, descriptor, source=str(other / "run.trc"))
            hidden = offer(host, descriptor, source="/nowhere/run.trc", name="hidden.trc")
        finally:
            os.close(descriptor)
    assert (there["path"], hidden["path"]) == ("run.trc", "hidden.trc")
    assert len(list((host.state / "spool").iterdir())) == 1


def test_names_that_lead_elsewhere(host: Host, mine: int) -> None:
    for name, reason in ELSEWHERE:
        answer = offer(host, mine, **name)
        assert answer["tid"] is None
        assert reason in answer["refused"]


def test_a_name_that_is_not_text_is_taken_as_it_is(host: Host, mine: int) -> None:
    assert offer(host, mine, name_base64="/+8=")["path"] == "\\xff\\xef"
