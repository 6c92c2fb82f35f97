"""The peer's files on a real topic, their records made by hand and dealt out to all partitions:
kills, replays, lies, hosts that share a group, kfd's own records among them."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.evidence import nothing_outside
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness, digest
from tests.integration.records import Sender
from tests.peerfiles import PeerFile
from tests.support import eventually
from tests.unit.ctl.kfdctl import run

PEER: dict[str, Any] = {"format": "openmsistream"}
CHUNK = 64 << 10
PARTITIONS = 8


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """A daemon whose route takes the peer's records, not started."""
    return make_host("receiver", sends=False, download=PEER)


def deal_out(sender: Sender, values: list[bytes], seed: int = 1) -> None:
    """Produce records in an arbitrary order, to arbitrary partitions."""
    chance = random.Random(seed)
    for value in chance.sample(values, len(values)):
        sender.raw(None, value, chance.randrange(PARTITIONS))
    sender.flush()


def large(name: str, chunks: int = 40, **more: Any) -> PeerFile:
    return PeerFile(os.urandom(CHUNK * chunks - 7), name, chunk_size=CHUNK, **more)


def test_shuffled_repeated_and_foreign_records(
    receiver: Host, sender: Sender, tmp_path: Path
) -> None:
    files = [large(f"{number}.trc", subdir="lab/a") for number in range(4)]
    values = [value for file in files for value in file.values()]
    hostile = [
        files[0].value(3, name="../../escaped"), files[0].value(3, subdir="../.."),
        files[0].value(3, subdir=os.fspath(tmp_path)), large("lie").value(3, chunk=bytes(64)),
        files[0].value(3, offset=0), b"\xc1 not msgpack", b"",
    ]  # fmt: skip
    receiver.start()
    with Witness(receiver.down) as witness, nothing_outside(tmp_path, receiver):
        deal_out(sender, values + hostile + values[::3])
        own = sender.file(b"of kfd's own")
        receiver.receives(own.path, *(f"lab/a/{file.name}" for file in files))
        eventually(lambda: receiver.incoming()["lag"] == 0)
    expected = {f"lab/a/{file.name}".encode(): {digest(file.content)} for file in files}
    witness.saw_only(expected | {own.path: {digest(own.content)}})
    witness.saw_each_once()
    receiver.clean()
    bad = {"bad-path": 3, "digest-mismatch": 1, "malformed": 1, "foreign": 2}
    assert receiver.incoming()["bad"] == bad  # repeats are nothing bad


@pytest.mark.parametrize(
    "place", ["partial.written:9", "publish.intended", "publish.renamed", "publish.concluded"]
)
def test_killed_amid_files(receiver: Host, sender: Sender, place: str) -> None:
    files = [large(f"{number}.trc", chunks=12) for number in range(3)]
    deal_out(sender, [value for file in files for value in file.values()])
    expected = {file.name.encode(): {digest(file.content)} for file in files}
    with Witness(receiver.down) as witness:
        receiver.environment["KFD_CRASH_AT"] = place
        receiver.spawn()
        assert receiver.wait() == -signal.SIGKILL
        receiver.environment.clear()
        receiver.start()
        receiver.receives(*expected)
        eventually(lambda: receiver.incoming()["lag"] == 0)
    witness.saw_only(expected)
    witness.saw_each_once()
    receiver.clean()
    receiver.terminate()
    receiver.start()
    eventually(lambda: receiver.incoming()["lag"] == 0)
    assert receiver.states("download") == {(name.decode(), "published"): 1 for name in expected}


def test_file_with_a_hole_expires_and_a_new_upload_is_published(
    make_host: MakeHost, sender: Sender
) -> None:
    receiver = make_host("receiver", sends=False, download=PEER | {"incomplete_timeout": "1s"})
    receiver.start()
    file = large("run.trc", chunks=9)
    deal_out(sender, file.values()[1:])
    eventually(lambda: receiver.states("download") == {("run.trc", "expired"): 1})
    assert receiver.published() == {}
    deal_out(sender, file.values(), seed=2)
    receiver.receives("run.trc")
    assert receiver.published() == {b"run.trc": digest(file.content)}


def test_what_comes_back_is_the_newest(
    receiver: Host, sender: Sender, bootstrap: str, tmp_path: Path
) -> None:
    """A, B, A again; then all of it is read again by a host with a new ledger."""
    receiver.start()
    longer, shorter = large("run.trc", chunks=9), large("run.trc", chunks=2)
    for file in (longer, shorter, longer):
        deal_out(sender, file.values())
        eventually(lambda: receiver.published() == {b"run.trc": digest(file.content)})  # noqa: B023
        eventually(lambda: receiver.incoming()["receiving"] == 0)
    receiver.terminate()
    receiver.start()
    eventually(lambda: receiver.incoming()["lag"] == 0)
    assert receiver.states("download") == {("run.trc", "published"): 3}
    assert receiver.published() == {b"run.trc": digest(longer.content)}
    for number, one in enumerate(receiver.transfers()):  # each by the id that it has here
        extracted = tmp_path / f"{number}"
        options = ["--bootstrap", bootstrap, "--extract", one["tid"][-8:], "-o", extracted]
        assert run("inspect", "topic", sender.topic, *options)[0] == 0
        assert extracted.stat().st_size == one["size"]


def test_hosts_that_share_a_group_read_nothing_and_say_so(
    make_host: MakeHost, sender: Sender
) -> None:
    """Neither could put a file together; what came meanwhile is read when one is alone again."""
    one, two = (make_host(name, sends=False, download=PEER) for name in ("one", "two"))
    one.start()
    first = large("first.trc")
    deal_out(sender, first.values())
    one.receives("first.trc")
    two.start()
    for host in (one, two):
        eventually(lambda: _problem(host, "group of its own"), 60)  # noqa: B023
    second = large("second.trc")
    deal_out(sender, second.values(), seed=2)
    single = PeerFile(b"of one record", "single")
    deal_out(sender, single.values())
    assert all(_problem(host, "group of its own") for host in (one, two))
    assert two.published() == {}
    one.terminate()
    two.receives("second.trc", "single", deadline=90)
    eventually(lambda: not _problem(two, "group of its own"))
    assert two.published() == {
        b"second.trc": digest(second.content),
        b"single": digest(single.content),
    }
    assert set(one.published()) == {b"first.trc"}


def _problem(host: Host, text: str) -> bool:
    return any(text in one["fix"] for one in host.status()["problems"])
