"""What is bounded: open files, bitmaps, space on the disk, time between two polls."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd import scattered as scattered_module
from kfd.daemon.incoming import receiver as receiver_module
from kfd.daemon.incoming import scattered as incoming_module
from kfd.daemon.incoming.partition import IDLE_SECONDS
from kfd.daemon.ledger import Ledger
from kfd.daemon.publishing.partials import DiskError
from kfd.scattered import MAX_PAGES, Bitmap
from kfd.units import Room
from tests.parts import Receiving, fill, in_child, mounted, receiving, running_ledger
from tests.peerfiles import PeerFile
from tests.unit.scattered.topic import PARTITIONS, Topic, bad, read_rest, states


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Receiving]:
    """A route on a file system of 256 KiB, of which 64 KiB are to stay free."""
    with (
        mounted(tmp_path / "disk", "tmpfs", "size=256k,mode=755"),
        running_ledger(tmp_path / "state") as ledger,
        receiving(
            ledger, tmp_path / "disk" / "data", min_free=Room(size=64 << 10), mixed=True
        ) as parts,
    ):
        yield parts


def big(name: str, size: int) -> PeerFile:
    return PeerFile(os.urandom(size), name, chunk_size=4096)


@given(st.lists(st.integers(0, 20_000)))
def test_bitmap_knows_what_was_added(indexes: list[int]) -> None:
    bitmap = Bitmap()
    known: set[int] = set()
    for index in indexes:
        assert (index in bitmap) == (index in known)
        if index not in known:
            bitmap.add(index)
            known.add(index)
    assert bitmap.count == len(known)
    assert bitmap.pages == len({index // 4096 for index in known})
    assert all((index in bitmap) == (index in known) for index in range(0, 20_001, 7))


def test_claims_allocate_nothing(parts: Receiving, topic: Topic) -> None:
    """A chunk may say that it is one of very many, far behind the others."""
    for number in range(20):
        claims = {"total": 1 << 26, "index": (1 << 25) + 1, "offset": 4 << 25, "data": b"ABCD"}
        topic.add(PeerFile(b"far away", f"{number}").value(1, **claims), number % 3)
    read_rest(parts, topic)
    assert len(parts.receiver.open_transfers()) == 20
    assert sum(path.stat().st_blocks for path in (parts.root / ".kfd").iterdir()) < 2000
    assert parts.visible() == {}


def test_newcomers_wait_for_idle_ones_to_go(parts: Receiving, topic: Topic) -> None:
    parts.receiver._reading.gathering.max_open = 3
    for name in "abc":
        topic.add(PeerFile(b"12345678", name).value(1), 0)
    topic.upload(PeerFile(b"single", "single", chunk_size=9))
    read_rest(parts, topic)
    assert bad(parts) == {"too-many-open": 1}
    parts.receiver.pass_time(IDLE_SECONDS + 1, PARTITIONS)
    topic.upload(PeerFile(b"another", "another", chunk_size=9))
    read_rest(parts, topic)
    assert dict(states(parts)) == {b"a": "expired", b"another": "published"}


def test_bitmaps_are_bounded(parts: Receiving, topic: Topic) -> None:
    topic.add(PeerFile(b"12345678", "one").value(1), 0)
    parts.receiver._reading.gathering._pages = MAX_PAGES
    topic.add(PeerFile(b"12345678", "two").value(1), 0)
    read_rest(parts, topic)
    assert bad(parts) == {"too-many-open": 2}


def test_idle_ones_go_one_by_one_for_a_full_bitmap(
    parts: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each newcomer takes the place of one: what was expired is on record before more is."""
    monkeypatch.setattr(scattered_module, "MAX_PAGES", 5)
    for number in range(5):
        topic.add(PeerFile(b"12345678", f"old{number}").value(1), number % 3)
    read_rest(parts, topic)
    parts.receiver.pass_time(IDLE_SECONDS + 1, PARTITIONS)
    for number in range(3):
        topic.add(PeerFile(b"12345678", f"new{number}").value(1), number % 3)
    read_rest(parts, topic)
    assert [state for _, state in states(parts)] == ["expired"] * 3
    names = {one.begin.path for one in parts.receiver.open_transfers()}
    assert {b"new0", b"new1", b"new2"} < names
    assert len(names) == 5
    assert bad(parts) == {"expired": 3}


def test_a_file_is_not_expired_for_its_own_record(
    parts: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PeerFile(b"x" * 4097, chunk_size=1)
    topic.add(file.value(1), 0)
    read_rest(parts, topic)
    monkeypatch.setattr(scattered_module, "MAX_PAGES", 1)
    parts.receiver.pass_time(IDLE_SECONDS + 1, PARTITIONS)
    topic.add(file.value(4097), 0)
    read_rest(parts, topic)
    assert states(parts) == []
    assert bad(parts) == {"too-many-open": 1}


def test_large_file_is_verified_between_polls(
    parts: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "VERIFIED_AT_ONCE", 8)
    file = PeerFile(os.urandom(100))
    parts.receiver.receive(topic.upload(file))
    assert parts.visible() == {}
    slices = 1
    while parts.receiver.catch_up(16):
        slices += 1
        assert parts.visible() == {}
    assert slices >= 5
    assert parts.visible() == {b"run.trc": file.content}
    assert parts.receiver.safe_offsets() == topic.ends()


def test_repeat_while_a_large_file_is_verified(
    parts: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it means shows when the file is published: the record is read again."""
    monkeypatch.setattr(receiver_module, "VERIFIED_AT_ONCE", 8)
    file = PeerFile(os.urandom(100))
    records = topic.upload(file)
    again = topic.add(file.value(1), 1)
    parts.receiver.receive([*records, again])
    assert parts.receiver.take_rewinds() == {1: again.offset}
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": file.content}
    assert bad(parts) == {"duplicate": 1}


def test_file_that_does_not_fit_waits_and_others_go_on(small: Receiving, topic: Topic) -> None:
    filler = fill(small.root.parent, leave=96 << 10)
    large, one = big("large", 40 << 10), PeerFile(b"one", "one")
    topic.upload(large)
    topic.upload(one)
    read_rest(small, topic)
    assert small.visible() == {b"one": b"one"}
    assert small.receiver.deferred() == [40 << 10]
    assert small.receiver.safe_offsets() == {0: 0, 1: 0, 2: 0}
    small.receiver.try_deferred()
    assert small.receiver.take_rewinds() == {}
    filler.unlink()
    small.receiver.try_deferred()
    assert small.receiver.take_rewinds() == {0: 0, 1: 0, 2: 0}
    read_rest(small, topic)
    assert small.visible() == {b"one": b"one", b"large": large.content}
    assert small.receiver.deferred() == []
    assert bad(small) == {}
    assert small.receiver.safe_offsets() == topic.ends()


def test_claims_do_not_stall_a_route(
    small: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many files as may wait do so for space that was only claimed; others go on."""
    monkeypatch.setattr(incoming_module, "MAX_DEFERRED", 3)
    filler = fill(small.root.parent, leave=96 << 10)
    for number in range(5):
        topic.add(big(f"claim{number}", 60 << 10).value(1), number % 3)
    topic.upload(PeerFile(b"good", "good"))
    read_rest(small, topic)
    assert small.visible() == {b"good": b"good"}
    assert bad(small) == {"too-many-open": 2}
    assert len(small.receiver.deferred()) == 3
    filler.unlink()


def test_full_disk_loses_none_of_those_that_cannot_wait(
    small: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming_module, "MAX_DEFERRED", 1)
    filler = fill(small.root.parent)
    files = [big(f"file{number}", 20 << 10) for number in range(3)]
    for file in files:
        topic.upload(file)
    with pytest.raises(DiskError):
        read_rest(small, topic)
    filler.unlink()
    small.receiver.resume()
    small.receiver.try_deferred()
    small.receiver.take_rewinds()
    read_rest(small, topic)
    assert small.visible() == {file.name.encode(): file.content for file in files}
    assert bad(small) == {}


def test_what_could_never_fit_is_refused(small: Receiving, topic: Topic) -> None:
    topic.upload(big("huge", 300 << 10))
    read_rest(small, topic)
    assert bad(small) == {"too-big": 75}
    assert small.receiver.deferred() == []


def test_full_disk_gives_up_the_youngest(small: Receiving, topic: Topic) -> None:
    """Other programs took the space that both were sure of."""
    older, younger = big("older", 80 << 10), big("younger", 80 << 10)
    for index in range(1, 21):
        topic.add(older.value(index), index % 3)
        topic.add(younger.value(index), index % 3)
    early = [record for log in topic.records.values() for record in log[:4]]
    small.receiver.receive(early)
    filler = fill(small.root.parent, leave=60 << 10)
    read_rest(small, topic)
    assert small.visible() == {b"older": older.content}
    assert small.receiver.deferred() == [80 << 10]
    filler.unlink()
    small.receiver.try_deferred()
    small.receiver.take_rewinds()
    read_rest(small, topic)
    assert small.visible() == {b"older": older.content, b"younger": younger.content}


def test_file_system_without_files_of_that_size(tmp_path: Path) -> None:
    """A limit of the file system concerns that file only, not the disk."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        topic = Topic()
        with (
            running_ledger(tmp_path / "state") as ledger,
            receiving(ledger, tmp_path / "data", mixed=True) as parts,
        ):
            claims = {"total": 1 << 10, "index": 513, "offset": 512 * 4096, "data": bytes(4096)}
            topic.add(big("far", 4096).value(1, **claims), 0)
            topic.upload(PeerFile(b"behind it", "near"))
            read_rest(parts, topic)
            assert parts.visible() == {b"near": b"behind it"}
            assert dict(states(parts)) == {b"far": "quarantined", b"near": "published"}
            assert bad(parts) == {"too-big": 1}

    assert in_child(work) == 0


def test_disk_that_fails_once_reads_a_file_again(
    parts: Receiving, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PeerFile(os.urandom(100))
    records = topic.upload(file)

    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fails)
        with pytest.raises(DiskError):
            parts.receiver.receive(records)
    parts.receiver.resume()
    assert parts.parts() == []
    assert parts.receiver.take_rewinds() == {0: 0, 1: 0, 2: 0}
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": file.content}
    assert bad(parts) == {}


def test_nothing_of_it_survives_a_new_life(ledger: Ledger, tmp_path: Path, topic: Topic) -> None:
    with receiving(ledger, tmp_path / "data", mixed=True) as parts:
        parts.receiver.receive(topic.upload(PeerFile(os.urandom(40)))[:-1])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.drop(PARTITIONS)
        assert parts.parts() == []
