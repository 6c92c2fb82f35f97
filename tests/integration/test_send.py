"""``kfdctl send``: what it waits for, what it survives, what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness, digest
from tests.integration.records import complete, transfers_on
from tests.support import eventually

SLOW: dict[str, Any] = {  # so that a file of some MiB is under way for a while
    "upload": {"rate_limit": "4MiB"},
    "chunk_size": "64KiB",
    "queue": {"size": "4MiB"},
}


def sent_by(host: Host, *arguments: str | Path) -> dict[str, Any]:
    """What ``kfdctl send --json`` says; it must succeed."""
    done = host.ctl("send", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file outside of the route's directory."""
    path = tmp_path / "elsewhere.trc"
    path.write_bytes(os.urandom(100_000))
    return path


def test_returns_when_all_is_acknowledged(
    make_host: MakeHost, bootstrap: str, topic: str, tmp_path: Path
) -> None:
    host = make_host(receives=False, **SLOW)
    host.start()
    file = tmp_path / "large.trc"
    file.write_bytes(os.urandom((6 << 20) + 1))
    done = host.ctl("send", file)
    (sent,) = complete(transfers_on(bootstrap, topic).values())  # no waiting: it is there
    assert done.returncode == 0, done.stderr
    assert sent.content == file.read_bytes()
    assert sent.begin["path"] == b"large.trc"
    tid = next(iter(transfers_on(bootstrap, topic))).hex()
    first, last = done.stdout.splitlines()
    assert first == f"large.trc  6 MiB  out -> {topic}  id {tid[-8:]}"
    assert last.startswith("In Kafka after ")


def test_until_queued_does_not_wait(make_host: MakeHost, elsewhere: Path) -> None:
    """No broker ever answers, and yet the file is accepted, across a crash too."""
    host = make_host(kafka={"bootstrap.servers": "127.0.0.1:1"})
    host.start()
    done = host.ctl("send", "--until", "queued", elsewhere)
    assert done.returncode == 0, done.stderr
    host.kill9()
    host.start()
    assert host.outgoing()["queued"] == 1
    waiting = host.ctl("send", "--timeout", "1s", elsewhere)
    assert waiting.returncode == 75
    assert "timed out; the transfer goes on" in waiting.stderr


def test_who_waits_is_told_why_nothing_moves(make_host: MakeHost, elsewhere: Path) -> None:
    host = make_host(kafka={"bootstrap.servers": "127.0.0.1:1"})
    host.start()
    eventually(lambda: host.status()["problems"] != [])
    waiting = host.ctl("send", "--timeout", "1s", "--until", "delivered", elsewhere)
    assert waiting.returncode == 75
    assert "timed out; the transfer goes on once it can: no broker answers: " in waiting.stderr
    assert "fix: start the brokers" in waiting.stderr
    assert "; kfdctl wait --until delivered " in waiting.stderr
    (listed,) = host.transfers("upload")
    shown = host.ctl("show", listed["tid"]).stdout
    assert "reason      no broker answers: " in shown
    again = host.ctl("send", "--until", "queued", elsewhere)
    assert f"is queued already, id {listed['tid'][-8:]}" in again.stdout


def test_a_route_that_is_not_there_is_a_wrong_usage(host: Host, elsewhere: Path) -> None:
    refused = host.ctl("send", "--route", "nope", elsewhere)
    assert refused.returncode == 2
    assert "there is no upload route nope" in refused.stderr


def test_interrupted_send_detaches_and_the_transfer_goes_on(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host(**SLOW)
    host.start()
    file = tmp_path / "large.trc"
    file.write_bytes(os.urandom(8 << 20))
    command = host.ctl_command("send", file)
    sending = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    eventually(lambda: host.outgoing()["sending"] == 1)
    sending.send_signal(signal.SIGINT)
    _, messages = sending.communicate(timeout=30)
    assert sending.returncode == 130
    (listed,) = host.transfers("upload")
    assert listed["state"] == "sending"
    assert f"Detached; the transfer goes on.  See: kfdctl wait {listed['tid'][-8:]}" in messages
    waited = host.ctl("wait", listed["tid"][-8:])
    assert waited.returncode == 0, waited.stderr
    host.receives("large.trc")
    assert (host.down / "large.trc").read_bytes() == file.read_bytes()


def test_same_file_again_says_so(host: Host, elsewhere: Path) -> None:
    (first,) = sent_by(host, elsewhere)["files"]
    (second,) = sent_by(host, elsewhere)["files"]
    assert (first["already"], second["already"]) == (False, True)
    assert first["tid"] == second["tid"]
    assert "was sent already" in host.ctl("send", elsewhere).stdout
    (third,) = sent_by(host, "--again", elsewhere)["files"]
    assert third["tid"] != first["tid"]
    assert host.arrived() == 2
    elsewhere.write_bytes(b"changed")
    (fourth,) = sent_by(host, elsewhere)["files"]
    assert not fourth["already"]
    eventually(lambda: host.published() == {b"elsewhere.trc": digest(b"changed")})


def test_what_the_watcher_sent_is_not_sent_again(host: Host) -> None:
    host.put("run/1.trc", b"watched")
    host.receives("run/1.trc")
    (sent,) = sent_by(host, host.up / "run" / "1.trc")["files"]
    assert sent["already"]
    assert sent["path"] == "run/1.trc"
    assert host.arrived() == 1


def test_file_that_changes_while_it_is_read_is_never_mixed(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(**SLOW)
    host.start()
    with Witness(host.down) as witness:
        host.put("run.trc", b"1" * (8 << 20))
        eventually(lambda: host.outgoing()["sending"] == 1)
        host.put("run.trc", b"2" * (3 << 20))
        host.receives_all()
    witness.saw_only(host.versions)
    contents = [digest(one.content) for one in complete(transfers_on(bootstrap, topic).values())]
    assert contents == [digest(b"2" * (3 << 20))]
    assert host.states("upload")["run.trc", "cancelled"] >= 1


def test_send_follows_a_file_that_changes_meanwhile(make_host: MakeHost, tmp_path: Path) -> None:
    """The one who waits is told when the version that took over is in Kafka."""
    host = make_host(**SLOW)
    host.start()
    file = tmp_path / "run.trc"
    file.write_bytes(b"1" * (8 << 20))
    sending = subprocess.Popen(host.ctl_command("send", file), stdout=subprocess.DEVNULL)
    eventually(lambda: host.outgoing()["sending"] == 1)
    file.write_bytes(b"2" * (1 << 20))
    assert sending.wait(60) == 0
    host.receives("run.trc")
    assert host.published() == {b"run.trc": digest(b"2" * (1 << 20))}


def test_recursive_send_keeps_the_tree(host: Host, tmp_path: Path) -> None:
    top = tmp_path / "campaign"
    for path in ("a.trc", "sub/b.trc", "sub/;c d.trc"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(path.encode())
    (top / "link").symlink_to("/etc/passwd")
    assert host.ctl("send", "--recursive", top).returncode == 0
    names = ("campaign/a.trc", "campaign/sub/b.trc", "campaign/sub/;c d.trc")
    host.receives(*names)
    assert set(host.published()) == {name.encode() for name in names}


def test_many_files_in_one_command(host: Host, tmp_path: Path) -> None:
    """More than one message may carry descriptors for."""
    top = tmp_path / "many"
    top.mkdir()
    for number in range(600):
        (top / f"{number}").write_bytes(b"%d" % number)
    done = host.ctl("send", *top.iterdir())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" -> ") == 600
    eventually(lambda: len(host.published()) == 600)


def test_to_a_topic_without_a_route(
    host: Host, elsewhere: Path, bootstrap: str, make_topic: Any
) -> None:
    other = make_topic()
    done = host.ctl("send", "--topic", other, "--name", "deep/run.trc", elsewhere)
    assert done.returncode == 0, done.stderr
    (sent,) = complete(transfers_on(bootstrap, other).values())
    assert (sent.begin["path"], sent.content) == (b"deep/run.trc", elsewhere.read_bytes())


def test_what_is_no_topic_is_refused(host: Host, elsewhere: Path) -> None:
    """It would wait for ever, and so would a drain."""
    done = host.ctl("send", "--topic", "not a topic", "--until", "queued", elsewhere)
    assert done.returncode == 2
    assert "not a topic can't be the name of a topic" in done.stderr
    assert host.transfers() == []


@pytest.mark.parametrize("name", ["../escaped", "/absolute", "a/../b", ".kfd/owner", "n" * 256])
def test_name_that_receivers_would_refuse_is_refused_here(
    host: Host, elsewhere: Path, name: str
) -> None:
    done = host.ctl("send", "--name", name, elsewhere)
    assert done.returncode == 2
    assert "can't be its name on the topic" in done.stderr
    assert "  fix: give another --name" in done.stderr
    assert host.transfers() == []


def test_chunk_that_the_topic_does_not_take(
    make_host: MakeHost, make_topic: Any, elsewhere: Path
) -> None:
    """Both numbers are said, nothing is called sent, and it recovers when the topic takes more."""
    small = make_topic(**{"max.message.bytes": "262144"})
    host = make_host(topic=small)
    host.put("run.trc", bytes(400_000), old=True)
    host.start()
    eventually(lambda: host.status()["state"] == "degraded")
    (problem, *_) = host.status()["problems"]
    assert problem["text"] == (
        f"{small} takes 262144 bytes a record, chunk_size 524288 does not fit"
    )
    assert problem["fix"].startswith("chunk_size: 128KiB")
    refused = host.ctl("send", elsewhere)
    assert refused.returncode == 10
    assert "takes 262144 bytes a record" in refused.stderr
    assert host.arrived() == 0
    assert host.terminate() == 0
    host.config.write_text(host.config.read_text("utf-8") + "chunk_size: 128KiB\n")
    host.start()
    host.receives_all()
    assert host.status()["problems"] == []
