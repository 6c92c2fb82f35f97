"""A disk with little room: who waits, who goes on, who is given up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.incoming.partition import IDLE_SECONDS
from kfd.units import Room
from tests.parts import Receiving, Sent, fill, mounted, receiving, running_ledger
from tests.unit.resuming.lives import bad


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Receiving]:
    """A route on a file system of 256 KiB, of which 64 KiB are to stay free."""
    with (
        mounted(tmp_path / "disk", "tmpfs", "size=256k,mode=755"),
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "disk" / "data", min_free=Room(size=64 << 10)) as parts,
    ):
        yield parts


def test_file_that_does_not_fit_waits_and_others_go_on(small: Receiving) -> None:
    filler = fill(small.root.parent, leave=96 << 10)
    big = Sent(os.urandom(40 << 10), b"big")
    one = Sent(b"one", b"one")
    records = big.records()
    small.receiver.receive([*records, *one.records(0, len(records))])
    assert small.visible() == {b"one": b"one"}
    assert small.receiver.deferred() == [40 << 10]
    assert small.receiver.safe_offsets()[0] == 0
    assert bad(small) == {}
    small.receiver.try_deferred()
    assert small.receiver.take_rewinds() == {}
    filler.unlink()
    small.receiver.try_deferred()
    assert small.receiver.take_rewinds() == {0: 0}
    small.receiver.receive([*records, *one.records(0, len(records))])
    assert small.visible() == {b"one": b"one", b"big": big.content}
    assert small.receiver.deferred() == []
    assert small.receiver.safe_offsets()[0] == len(records) + 1


def test_what_was_begun_is_sure_of_its_place(small: Receiving) -> None:
    one, two = Sent(bytes(100 << 10), b"one"), Sent(bytes(100 << 10), b"two")
    small.receiver.receive([one.records(0)[0], two.records(1)[0]])
    assert small.receiver.deferred() == [100 << 10]
    other = small.another_thread()
    other.receive([Sent(bytes(100 << 10), b"three").records(2)[0]])
    assert other.deferred() == [100 << 10]


def test_claims_hold_up_nobody_for_long(small: Receiving) -> None:
    """Whoever begins what never comes keeps others from beginning for a minute, small ones not."""
    claims = Sent(bytes(180 << 10), b"never")
    small.receiver.receive(claims.records(0)[:1])
    one, two = Sent(b"one", b"one"), Sent(bytes(20 << 10), b"two")
    records = two.records(1, 1)
    small.receiver.receive([*one.records(1), *records])
    assert small.visible() == {b"one": b"one"}
    assert small.receiver.deferred() == [20 << 10]
    small.receiver.pass_time(IDLE_SECONDS + 1, [0])
    small.receiver.try_deferred()
    assert small.receiver.take_rewinds() == {1: 1}
    small.receiver.receive(records)
    assert small.visible() == {b"one": b"one", b"two": two.content}


def test_file_larger_than_the_disk_is_refused(small: Receiving) -> None:
    small.receiver.receive(Sent(bytes(200 << 10), b"huge").records(0)[:1])
    assert small.receiver.deferred() == []
    assert bad(small) == {"too-big": 1}


def test_file_does_not_wait_for_space_for_ever(small: Receiving) -> None:
    fill(small.root.parent)
    small.receiver.receive(Sent(b"x", b"x").records(0))
    small.receiver.pass_time(3599, [0])
    assert small.receiver.safe_offsets()[0] == 0
    small.receiver.pass_time(1, [0])
    assert small.receiver.deferred() == []
    assert small.receiver.safe_offsets()[0] == 1
    small.receiver.resume()
    assert bad(small) == {"expired": 1}


def test_full_disk_gives_up_the_youngest_and_finishes_the_oldest(small: Receiving) -> None:
    """Other programs took the space that was there when both began."""
    old = Sent(os.urandom(60 << 10), b"old", tid=b"\0" + os.urandom(15))
    young = Sent(os.urandom(60 << 10), b"young", tid=b"\1" + os.urandom(15))
    records, others = old.records(0), young.records(1)
    small.receiver.receive([*records[:9000], *others[:9000]])
    filler = fill(small.root.parent)
    small.receiver.receive(records[9000:])
    assert small.visible().keys() == {b"old"}
    assert small.receiver.deferred() == [60 << 10]
    assert small.receiver.safe_offsets() == {0: len(records), 1: 0, 2: 0}
    filler.unlink()
    small.receiver.try_deferred()
    assert small.receiver.take_rewinds() == {1: 0}
    small.receiver.receive(others)
    assert small.visible() == {b"old": old.content, b"young": young.content}
