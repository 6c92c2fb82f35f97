"""The daemon goes on where it was: partials after a kill, lost offsets, space that isn't there."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness
from tests.integration.records import Sender
from tests.parts import fill, mounted
from tests.support import eventually

CHUNK = 64 << 10
SIZE = 96 << 20


def is_marked(host: Host) -> bool:
    """Whether a partial is durable."""
    parts = (host.down / ".kfd").glob("*.part")
    return any("user.kfd.partial" in os.listxattr(part) for part in parts)


def began_at(host: Host) -> list[int]:
    """The offsets at which partitions went on, other than those that were committed."""
    return [int(found) for found in re.findall(r"goes on at (\d+)", host.log())]


def slow_sender(make_host: MakeHost, size: int = SIZE) -> Host:
    """A daemon that sends one large file for some ten seconds."""
    sender: Host = make_host(
        "sender", receives=False, upload={"rate_limit": "8MiB"}, chunk_size="64KiB"
    )
    sender.put("large", random.Random(1).randbytes(size))
    sender.start()
    return sender


def test_killed_receiver_goes_on_with_a_large_file(make_host: MakeHost) -> None:
    sender = slow_sender(make_host)
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    receiver.start()
    with Witness(receiver.down) as witness:
        eventually(lambda: is_marked(receiver), 30, every=0.1)
        marked = size_of_partial(receiver)  # and committed before the next MiBs are there
        eventually(lambda: size_of_partial(receiver) > marked + (8 << 20), 30, every=0.1)
        receiver.kill9()
        receiver.start()
        receiver.receives_all(sender)
    witness.saw_only(sender.versions)
    (start,) = began_at(receiver)
    assert start >= 8 << 20 >> 16
    assert receiver.incoming()["records"] <= SIZE // CHUNK - start
    assert receiver.incoming()["bad"] == {}
    receiver.clean()


def size_of_partial(host: Host) -> int:
    """Bytes of the one partial that is there; 0 if there is none."""
    return sum(part.stat().st_size for part in (host.down / ".kfd").glob("*.part"))


def test_orderly_restart_reads_nothing_twice(make_host: MakeHost) -> None:
    sender = slow_sender(make_host, 32 << 20)
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    receiver.start()
    eventually(lambda: size_of_partial(receiver) > 2 << 20, 30, every=0.1)
    read = receiver.incoming()["records"]
    assert receiver.terminate() == 0
    assert is_marked(receiver)
    receiver.start()
    receiver.receives_all(sender)
    assert began_at(receiver)[0] >= read
    assert receiver.incoming()["bad"] == {}


def test_lost_ledger_of_a_receiver_costs_no_file_and_no_partial(make_host: MakeHost) -> None:
    sender = slow_sender(make_host, 32 << 20)
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    receiver.start()
    eventually(lambda: size_of_partial(receiver) > 2 << 20, 30, every=0.1)
    assert receiver.terminate() == 0
    for path in receiver.state.glob("ledger.db*"):
        path.unlink()
    receiver.start()
    receiver.receives_all(sender)
    assert len(began_at(receiver)) == 1


def test_offsets_that_are_lost_are_counted(
    make_host: MakeHost, sender: Sender, bootstrap: str, topic: str
) -> None:
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    sender.file(b"before")
    receiver.start()
    receiver.receives("before")
    assert receiver.terminate() == 0
    for number in range(20):
        sender.file(b"%d" % number)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 16)]).values()
    deleted.result(30)  # "before" had offset 0
    receiver.start()
    receiver.receives(*(str(number) for number in range(15, 20)))
    eventually(lambda: receiver.incoming()["bad"] == {"offsets-lost": 15}, every=0.2)
    assert len(receiver.published()) == 6


def test_file_waits_for_space_and_others_go_on(
    make_host: MakeHost, sender: Sender, tmp_path: Path
) -> None:
    disk = tmp_path / "receiver" / "down"
    receiver = make_host("receiver", sends=False, pools=ONE_READER, download={"min_free": "1MiB"})
    with mounted(disk, "tmpfs", "size=8m,mode=755"):
        receiver.start()
        filler = fill(disk, leave=3 << 20)
        sender.file(b"large", os.urandom(4 << 20))
        sender.file(b"small")
        receiver.receives("small")
        waits = "1 file waits for space: 4 MiB, the smallest 4 MiB"
        eventually(lambda: waits in [one["text"] for one in receiver.status()["problems"]])
        filler.unlink()
        receiver.receives("large")
        eventually(lambda: receiver.status()["problems"] == [], every=0.2)
        assert receiver.terminate() == 0
