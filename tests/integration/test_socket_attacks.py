"""The control socket under attack: each is refused or contained, and everything else goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfd.control import GetStatusParameters, GetStatusReply
from kfd.ctl.client import connect
from tests.integration.attacks import ATTACKS, NOBODY, call
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.openfiles import open_files
from tests.integration.records import complete, transfers_on
from tests.privileges import unprivileged
from tests.rawclient import Raw
from tests.support import CHECKOUT, eventually

FILES, SIZE = 100, 256 << 10  # what goes on meanwhile
LOOKS = 20  # at the status
DEADLINE = 60.0  # seconds; what is really needed is told, not asserted
LEAVE = 64 << 20  # bytes of memory that may be in use more than before

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def attacked(make_host: MakeHost, topic: str) -> Host:
    """A daemon whose control group is that of root: nobody, with that, is a member.

    Members may not send to the route ``closed``; what they send to ``parked`` stays in the queue.
    """
    host = make_host(
        control_group="root", create_topics=False, spool_max="512MiB", pools=ONE_READER
    )
    config = yaml.safe_load(host.config.read_text())
    routes: dict[str, dict[str, Any]] = {
        "closed": {"topic": topic, "send": False},
        "parked": {"topic": f"{topic}-not-there"},
    }
    for name, route in routes.items():
        directory = host.up.parent / name
        directory.mkdir()
        config["uploads"][name] = {"directory": str(directory), **route}
    host.config.write_text(yaml.safe_dump(config))
    host.start()
    host.socket.parent.chmod(0o711)
    return host


@contextmanager
def attacking(name: str, host: Host) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.integration.attacks", name, str(host.socket)]
    attacker = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE)
    try:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"begun\n"
        yield
        assert attacker.poll() is None, "the attack ended"
    finally:
        attacker.kill()
        attacker.communicate()


@contextmanager
def member(path: Path) -> Iterator[Raw]:
    """A connection of one who may send and look."""
    with unprivileged():
        client = Raw(path)
    with client:
        yield client


def status_seconds(host: Host) -> float:
    """How long root waits for an answer, at worst."""
    worst = 0.0
    for _ in range(LOOKS):
        begun = time.monotonic()
        with connect(host.socket, DEADLINE) as client:
            client.call(GetStatusParameters(), GetStatusReply)
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.02)
    return worst


def transfer_seconds(host: Host, name: str) -> float:
    """How long files take from their directory to the other."""
    content = os.urandom(SIZE)
    begun = time.monotonic()
    for number in range(FILES):
        host.put(f"{name}/{number}", content)
    host.receives(*(f"{name}/{number}" for number in range(FILES)), deadline=DEADLINE)
    return time.monotonic() - begun


@pytest.mark.parametrize("name", ATTACKS)
def test_everything_goes_on(attacked: Host, name: str) -> None:
    quiet, before = transfer_seconds(attacked, "before"), attacked.rss()
    held = open_files(attacked)
    with attacking(name, attacked):
        worst = status_seconds(attacked)
        under = transfer_seconds(attacked, "under")
        worst = max(worst, status_seconds(attacked))
    size = FILES * SIZE / 1e6
    print(
        f"{name}: status {worst * 1000:.0f} ms at worst,"
        f" {size / under:.0f} MB/s, without it {size / quiet:.0f}"
    )
    assert worst < DEADLINE
    eventually(lambda: not (open_files(attacked) - held), DEADLINE)
    assert attacked.rss() < before + LEAVE
    assert "control: a request" not in attacked.log()
    scopes = {problem["scope"] for problem in attacked.status()["problems"] if problem["degrades"]}
    assert scopes <= {"parked"}


def test_member_may_not_send_where_no_member_may(attacked: Host, tmp_path: Path) -> None:
    file = tmp_path / "run.trc"
    file.write_bytes(b"volts")
    with member(attacked.socket) as client, file.open("rb") as opened:

        def offered(**order: object) -> dict[str, Any]:
            files = [{"descriptor": 0, "source": str(file)}]
            answer = client.call("Send", {"files": files, **order}, (opened.fileno(),))
            return dict(answer["parameters"]["files"][0])

        closed = offered(route="closed")
        assert (closed["tid"], closed["fix"]) == (None, "set send: true on it")
        elsewhere = offered(topic="kfd-other")
        assert elsewhere["refused"].startswith("only root may send to kfd-other")
        assert offered(route="out")["tid"] is not None
        named = client.call("Send", {"files": [{"source": str(file)}]})
        assert named["error"] == "io.kfd.Control.NotPermitted"
        assert client.call("Quit")["error"] == "io.kfd.Control.NotPermitted"
    attacked.receives("run.trc")


def test_one_request_in_flight_may_have_descriptors(attacked: Host, tmp_path: Path) -> None:
    """Whose they would be otherwise, nobody could tell."""
    file = tmp_path / "run.trc"
    file.write_bytes(b"volts")
    with member(attacked.socket) as client, file.open("rb") as opened:
        send = call("Send", files=[{"descriptor": 0, "name": "stolen"}], route="out")
        socket.send_fds(client.socket, [call("GetStatus") + send], [opened.fileno()])
        assert "in flight" in client.read()["parameters"]["text"]
        assert client.closed()
    assert attacked.transfers() == []


@pytest.mark.parametrize("how", ["directory", "file"])
def test_what_takes_the_place_of_an_offered_file_is_not_sent(
    make_host: MakeHost, bootstrap: str, topic: str, how: str
) -> None:
    """The daemon may read it, but who asked may not."""
    host = make_host(
        control_group="root", pools=ONE_READER, bootstrap="127.0.0.1:1", receives=False
    )
    mine, secret = host.up.parent / "mine", host.up.parent / "secret"
    mine.mkdir()
    secret.mkdir(mode=0o700)
    (mine / "run.trc").write_bytes(b"mine")
    os.chown(mine / "run.trc", NOBODY, NOBODY)
    (secret / "run.trc").write_bytes(b"not for nobody")
    host.start()
    host.socket.parent.chmod(0o711)
    with member(host.socket) as client, (mine / "run.trc").open("rb") as opened:
        files = [{"descriptor": 0, "source": str(mine / "run.trc")}]
        answer = client.call("Send", {"files": files, "route": "out"}, (opened.fileno(),))
    assert answer["parameters"]["files"][0]["tid"]
    host.kill9()
    if how == "directory":
        mine.rename(mine.with_name("moved"))
        mine.symlink_to(secret)
    else:
        (mine / "run.trc").unlink()
        os.link(secret / "run.trc", mine / "run.trc")
    host.config.write_text(host.config.read_text().replace("127.0.0.1:1", bootstrap))
    host.start()
    eventually(lambda: host.states("upload")["run.trc", "failed"])
    (transfer,) = host.transfers("upload")
    assert transfer["reason"] == "the file was removed or replaced before it was sent"
    assert list(complete(transfers_on(bootstrap, topic).values())) == []


def test_own_file_may_take_the_place_of_an_offered_one(make_host: MakeHost, bootstrap: str) -> None:
    """As programs do that write files anew."""
    host = make_host(control_group="root", pools=ONE_READER, bootstrap="127.0.0.1:1")
    mine = host.up.parent / "run.trc"
    mine.write_bytes(b"first")
    host.start()
    host.socket.parent.chmod(0o711)
    with member(host.socket) as client, mine.open("rb") as opened:
        files = [{"descriptor": 0, "source": str(mine)}]
        client.call("Send", {"files": files, "route": "out"}, (opened.fileno(),))
    host.kill9()
    anew = mine.with_name("anew")
    anew.write_bytes(b"second")
    os.chown(anew, NOBODY, NOBODY)
    anew.rename(mine)
    host.config.write_text(host.config.read_text().replace("127.0.0.1:1", bootstrap))
    host.start()
    host.receives("run.trc")
    assert (host.down / "run.trc").read_bytes() == b"second"
