"""Foreign and hostile records are counted by reason and stop nothing; no path leaves."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.integration.records import CHUNK, Crafted, Headers, Sender
from tests.support import eventually

TID = bytes(range(16))
HUGE = 1 << 60
BAD_PATHS = {
    "parent": b"../escaped",
    "parent inside": b"a/../../escaped",
    "parent at the end": b"a/..",
    "absolute": b"/tmp/escaped",
    "kfd's own": b".kfd/owner",
    "NUL": b"a\0b",
    "empty": b"",
    "empty component": b"a//b",
    "dot": b"a/./b",
    "long component": b"n" * 256,
    "long": b"/".join([b"n" * 200] * 6),
    "deep": b"/".join([b"d"] * 33),
}


@dataclass(frozen=True)
class Bad:
    """A record that must be dropped for a reason."""

    reason: str
    headers: Headers
    value: bytes | None = b"?"


def kfd(*arrays: Any) -> Headers:
    """These arrays as ``kfd`` headers."""
    return [("kfd", msgpack.packb(array)) for array in arrays]


def foreign_records() -> Iterator[Bad]:
    """What other programs, and other versions of this one, may write."""
    middle = [1, TID, 7, 0, None, None]
    yield Bad("foreign", None)
    yield Bad("foreign", None, None)
    yield Bad("foreign", None, b"x" * 900_000)
    yield Bad("foreign", [("content-type", b"text/plain"), ("KFD", b"")])
    yield Bad("malformed", [("kfd", None)])
    yield Bad("malformed", [("kfd", b"")])
    yield Bad("malformed", [("kfd", b"\xc1")])
    yield Bad("malformed", [("kfd", b"\xdd\xff\xff\xff\xff")])
    yield Bad("malformed", [("kfd", b"\x91" * 5000)])
    yield Bad("malformed", [("kfd", msgpack.packb(middle) + b"!")])
    yield Bad("malformed", [("kfd", os.urandom(16 * 1024 + 1))])
    yield Bad("malformed", kfd(middle, middle))
    yield Bad("malformed", kfd({"version": 1}))
    yield Bad("malformed", kfd([1, TID, 7, 0, None]))
    yield Bad("malformed", kfd([1, TID[1:], 7, 0, None, None]))
    yield Bad("malformed", kfd([1, TID, -7, 0, None, None]))
    yield Bad("malformed", kfd([1, TID, HUGE * 8, 0, None, None]))
    yield Bad("malformed", kfd([True, TID, 7, 0, None, None]))
    yield Bad("malformed", kfd(middle), None)
    yield Bad("unsupported", kfd([2, TID, 7, 0, None, None]))
    yield Bad("unsupported", kfd([1, TID, 7, 4, None, None]))
    yield Bad("sealed", kfd([1, TID, 7, 1, None, None]))
    yield Bad("orphan", kfd(middle))
    yield Bad("orphan", kfd([1, TID, 0, 2, None, None]), b"")


def hostile_records(topic: str) -> Iterator[Bad]:
    """Sound headers that claim what isn't so."""

    def claim(reason: str, path: bytes = b"hostile", **begin: Any) -> Bad:
        ((array, value),) = Crafted(topic, path, begin=begin).records()
        return Bad(reason, kfd(array), value)

    for path in BAD_PATHS.values():
        yield claim("bad-path", path)
    yield claim("wrong-topic", topic="another-topic")
    yield claim("malformed-begin", size=-1)
    yield claim("malformed-begin", size=HUGE)  # and chunks as it was
    yield claim("malformed-begin", chunk_size=CHUNK + 1)
    yield claim("malformed-begin", origin="../../etc")
    yield claim("malformed-begin", path="text, not bytes")
    yield claim("malformed-begin", meta={"key": "v" * 5000})
    yield claim("malformed-begin", size=0, chunks=0, chunk_size=0)
    huge = Crafted(topic, b"huge", begin={"size": HUGE, "chunks": HUGE // CHUNK})
    ((array, value),) = huge.records()
    yield Bad("too-big", kfd([*array[:5], None]), value)
    ((array, value),) = Crafted(topic, b"short", begin={"size": 7, "chunks": 1}).records()
    yield Bad("malformed", kfd(array), value[:-1])
    yield Bad("malformed", kfd(array), value + b"!")
    ((array, value),) = Crafted(topic, b"digest", end={"digest": bytes(32)}).records()
    yield Bad("digest-mismatch", kfd(array), value)
    ((array, value),) = Crafted(topic, b"digest", end={"digest": b"short"}).records()
    yield Bad("malformed-end", kfd(array), value)
    ((array, value),) = Crafted(topic, b"end", end={"size": 8}).records()
    yield Bad("malformed-end", kfd(array), value)


def counted(host: Host, wanted: Counter[str]) -> None:
    """Wait until just these records were dropped."""
    end = time.monotonic() + 30
    while Counter(host.incoming()["bad"]) != wanted and time.monotonic() < end:
        pass
    assert Counter(host.incoming()["bad"]) == wanted


def everything_below(directory: Path) -> set[bytes]:
    return {os.path.join(p, n) for p, d, f in os.walk(os.fsencode(directory)) for n in d + f}


def test_bad_records_are_counted_and_good_files_flow(
    receiver: Host, sender: Sender, tmp_path: Path
) -> None:
    bad = [*foreign_records(), *hostile_records(sender.topic)]
    before = everything_below(tmp_path)
    good = {}
    for number, one in enumerate(bad):
        sender.raw(one.headers, one.value)
        crafted = Crafted(sender.topic, b"good/%d" % number, b"%d" % number)
        sender.send(crafted)
        good[crafted.path] = digest(crafted.content)
    sender.flush()
    eventually(lambda: len(receiver.published()) >= len(bad), 30)
    assert receiver.published() == good
    counted(receiver, Counter(one.reason for one in bad))
    new = everything_below(tmp_path) - before
    outside = {path for path in new if not path.startswith(os.fsencode(receiver.down))}
    assert {os.path.basename(path) for path in outside} <= {b"ledger.db-wal", b"ledger.db-shm"}
    assert not Path("/tmp/escaped").exists()
    receiver.clean()
    assert (
        receiver.incoming()["quarantined"] == 1
    )  # the wrong digest: its sender thinks it is there
    assert receiver.incoming()["lag"] == 0
    assert receiver.terminate() == 0


def test_header_with_a_name_that_is_not_text(receiver: Host, sender: Sender) -> None:
    """confluent_kafka raises SystemError on it."""
    sender.unnameable()
    sender.file(b"after it")
    receiver.receives("after it")
    counted(receiver, Counter(foreign=1))


def test_claims_of_a_begin_allocate_nothing(receiver: Host, sender: Sender) -> None:
    """Files are begun of which one chunk ever comes."""
    size = 16 << 20
    claims = {"size": size, "chunks": -(-size // CHUNK)}
    for number in range(200):
        crafted = Crafted(sender.topic, b"endless %d" % number, bytes(CHUNK), begin=claims)
        ((array, value),) = crafted.records()
        sender.record([*array[:5], None], value)
    sender.file(b"after them")
    receiver.receives("after them")
    eventually(lambda: receiver.incoming()["receiving"] == 200, 30)
    parts = [path.stat() for path in (receiver.down / ".kfd").glob("*.part")]
    assert {part.st_size for part in parts} == {CHUNK}
    assert receiver.terminate() == 0


def test_second_begin_changes_nothing(receiver: Host, sender: Sender) -> None:
    """Whoever repeats a tid with another path or content cannot redirect the file."""
    honest = Crafted(sender.topic, b"honest", bytes(3 * CHUNK))
    forged = Crafted(sender.topic, b"forged", b"f" * 3 * CHUNK, tid=honest.tid)
    for (array, value), (fake, fake_value) in zip(honest.records(), forged.records(), strict=True):
        sender.record(array, value)
        if fake[4] is not None:
            sender.record(fake, fake_value)
    sender.flush()
    receiver.receives("honest")
    assert receiver.published() == {b"honest": digest(honest.content)}
    counted(receiver, Counter({"conflicting-begin": 1}))


def test_gaps_duplicates_and_wrong_lengths_in_a_file(receiver: Host, sender: Sender) -> None:
    crafted = Crafted(sender.topic, b"whole", os.urandom(4 * CHUNK))
    first, second, third, last = crafted.records()
    wrong_length = (third[0], third[1][:-1])
    for record in (first, third, first, second, wrong_length, second, third, last, last):
        sender.record(*record)
    sender.flush()
    receiver.receives("whole")
    assert receiver.published() == {b"whole": digest(crafted.content)}
    counted(receiver, Counter(gap=1, malformed=1))


def test_abort_drops_the_partial(receiver: Host, sender: Sender) -> None:
    crafted = Crafted(sender.topic, b"aborted", bytes(3 * CHUNK))
    first, second, last = crafted.records()
    sender.record(*first)
    sender.record([1, crafted.tid, 1, 2, None, None], b"")
    sender.record(*second)
    sender.record(*last)
    sender.file(b"after it")
    receiver.receives("after it")
    assert set(receiver.published()) == {b"after it"}
    counted(receiver, Counter(orphan=2))
    receiver.clean()


def test_repeated_wrong_digest_is_one_quarantined_transfer(receiver: Host, sender: Sender) -> None:
    """All of it in one batch, as a sender does that tries again."""
    crafted = Crafted(sender.topic, b"wrong", end={"digest": bytes(32)})
    for _ in range(20):
        sender.send(crafted)
    sender.file(b"after it")
    receiver.receives("after it")
    eventually(lambda: receiver.incoming()["quarantined"] == 1)
    assert receiver.terminate() == 0


@pytest.mark.parametrize("chunks", [1, 3])
def test_one_tid_in_two_partitions(make_host: MakeHost, sender: Sender, chunks: int) -> None:
    """Whichever of the two is published is whole, and the daemon lives on."""
    receiver = make_host("receiver", sends=False)  # with a thread for each partition
    receiver.start()
    contents = [os.urandom(chunks * CHUNK) for _ in range(2)]
    pair = [Crafted(sender.topic, b"twin", content, tid=TID) for content in contents]
    for records in zip(*(one.records() for one in pair), strict=True):
        for partition, record in enumerate(records):
            sender.record(*record, partition=partition)
    sender.flush()
    for partition in range(2):
        sender.send(Crafted(sender.topic, b"after %d" % partition), partition)
    sender.flush()
    receiver.receives("after 0", "after 1")
    published = receiver.published()
    assert published.keys() >= {b"twin", b"after 0", b"after 1"}
    assert set(published.values()) <= {digest(one) for one in [*contents, b"crafted"]}
    assert receiver.terminate() == 0


def test_too_many_open_transfers_are_refused(receiver: Host, sender: Sender) -> None:
    """A flood of beginnings takes no more than its places; small files need none."""
    for number in range(1100):
        first, _ = Crafted(sender.topic, b"flood %d" % number, b"12", chunk_size=1).records()
        sender.record(*first)
    sender.file(b"after it")
    receiver.receives("after it")
    counted(receiver, Counter({"too-many-open": 1100 - 1024}))
    assert len(receiver.private()) == 1024 + 1


def test_max_size_is_held(make_host: MakeHost, sender: Sender) -> None:
    receiver = make_host("receiver", sends=False, download={"max_size": "1KiB"})
    receiver.start()
    sender.file(b"fits", bytes(1024))
    sender.file(b"too big", bytes(1025))
    sender.file(b"after it")
    receiver.receives("after it")
    assert set(receiver.published()) == {b"fits", b"after it"}
    counted(receiver, Counter({"too-big": 1}))


def test_flood_of_garbage_does_not_hold_files_back(receiver: Host, sender: Sender) -> None:
    stop = threading.Event()

    def flood() -> None:
        noise = Sender(*sender_address)
        while not stop.is_set():
            for _ in range(200):
                noise.raw([("kfd", os.urandom(40))], os.urandom(100))
            noise.flush()

    sender_address = (sender.bootstrap, sender.topic)
    flooding = threading.Thread(target=flood, name="flood")
    flooding.start()
    try:
        for number in range(50):
            sender.file(b"among %d" % number)
        receiver.receives(*(b"among %d" % number for number in range(50)))
    finally:
        stop.set()
        flooding.join()
    eventually(lambda: receiver.incoming()["lag"] == 0, 30)
    assert sum(receiver.incoming()["bad"].values()) + 50 == receiver.incoming()["records"]
    log_lines = [line for line in receiver.log().splitlines() if "not used" in line]
    assert len(log_lines) <= 5 * 8  # a line a minute for each reason, in each thread
