"""Going on after a restart, a rebalance, a reset or a full disk: what is read again, what not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.ledger import incoming
from kfd.daemon.partials import DiskError, sweep
from kfd.daemon.partition import IDLE_SECONDS
from kfd.daemon.receiver import Record
from kfd.daemon.settlement import settle
from kfd.offsets import Progress, decode
from kfd.units import Room
from tests.parts import (
    CHUNK,
    ROUTE,
    TOPIC,
    TOPIC_ID,
    Receiving,
    Sent,
    fill,
    mounted,
    receiving,
    running_ledger,
)


@contextmanager
def life(
    directory: Path, committed: Progress | None = None, *, ledger: str = "state", at: int = 0
) -> Iterator[Receiving]:
    """A life of a daemon that reads partition 0, from what was committed (else from ``at``)."""
    with (
        running_ledger(directory / ledger) as running,
        receiving(running, directory / "data", take=False) as parts,
    ):
        settle(ROUTE, parts.destination, running)
        sweep(parts.destination, TOPIC, 0)
        offset = committed.offset if committed else at
        parts.start = parts.receiver.take(0, TOPIC_ID, offset, committed)
        yield parts


def said(parts: Receiving) -> Progress:
    """What would be committed now, as the next owner reads it."""
    progress = decode(parts.receiver.progress()[0].encode())
    assert progress is not None
    return progress


def bad(parts: Receiving) -> dict[str, int]:
    return incoming.bad_counts(parts.ledger.reader(), ROUTE)


def state(parts: Receiving, sent: Sent) -> tuple[str, str]:
    row: tuple[str, str] = (
        parts.ledger.reader()
        .execute("SELECT state, reason FROM incoming WHERE tid = ?", (sent.tid,))
        .fetchone()
    )
    return row


def at(records: list[Record], offset: int) -> list[Record]:
    return [replace(one, offset=offset + n) for n, one in enumerate(records)]


LARGE = Sent(bytes(range(40)), b"large")
SMALL = Sent(b"abc", b"small")


# Durable partials


@pytest.mark.parametrize("second_ledger", ["state", "another"], ids=["same ledger", "lost ledger"])
def test_nothing_is_read_twice(tmp_path: Path, second_ledger: str) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
    with life(tmp_path, committed, ledger=second_ledger) as parts:
        assert parts.start == 4
        assert parts.receiver.safe_offsets()[0] == 0
        parts.receiver.receive(records[4:])
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}


def test_published_file_keeps_no_mark_of_a_partial(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        records = LARGE.records()
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive(records[4:])
        assert os.listxattr(parts.root / "large") == ["user.kfd.transfer"]


def test_what_came_after_a_checkpoint_is_read_again_from_there(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive([*records[4:6], *SMALL.records(0, 6)])
        committed = said(parts)
    with life(tmp_path, committed) as parts:
        assert parts.start == 4
        assert parts.partials.descriptor(next(iter(parts.receiver.held())))
        assert (parts.root / ".kfd" / parts.parts()[0]).stat().st_size == 4 * CHUNK
        parts.receiver.receive([*records[4:6], *SMALL.records(0, 6), *at(records[6:], 7)])
        assert parts.visible() == {b"large": LARGE.content, b"small": SMALL.content}
        assert bad(parts) == {}  # SMALL came twice, but its end was read before


def test_partial_older_than_the_commit_is_gone_on_with_from_its_first_record(
    tmp_path: Path,
) -> None:
    """A mark that a power cut took back, or a directory restored from a backup."""
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:2])
        parts.receiver.checkpoint(leaving=True)
        (name,) = parts.parts()
        mark = os.getxattr(parts.root / ".kfd" / name, "user.kfd.partial")
        parts.receiver.receive(records[2:5])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
        os.setxattr(parts.root / ".kfd" / name, "user.kfd.partial", mark)
    with life(tmp_path, committed) as parts:
        assert parts.start == 0
        parts.receiver.receive(records)
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}


def test_partials_without_a_commit_to_believe(tmp_path: Path) -> None:
    """What the commit said is lost, or isn't valid: what is held is passed over."""
    records = LARGE.records(offset=5)
    with life(tmp_path, at=5) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
    with life(tmp_path, at=5) as parts:
        assert parts.start == 5
        parts.receiver.receive(records)
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}


def test_partial_of_what_began_before_the_commit_is_removed(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
    with life(tmp_path, at=1) as parts:
        assert parts.parts() == []
        assert parts.receiver.open_transfers() == []


def test_partial_of_what_has_ended_elsewhere_is_removed(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
    elsewhere = Progress(TOPIC_ID, 0, 20, {})
    with life(tmp_path, elsewhere) as parts:
        assert parts.parts() == []
        assert parts.start == 20


@pytest.mark.parametrize("spoil", ["topic id", "mark", "name", "none"])
def test_partials_that_are_not_to_be_believed_are_removed(tmp_path: Path, spoil: str) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
        path = parts.root / ".kfd" / parts.parts()[0]
    if spoil == "mark":
        os.setxattr(path, "user.kfd.partial", b"\1odd")
    elif spoil == "name":
        path.rename(path.with_name(f"{bytes(16).hex()}-0.part"))
    elif spoil == "none":
        os.removexattr(path, "user.kfd.partial")
    topic_id = "another" if spoil == "topic id" else TOPIC_ID
    with (
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "data", take=False) as parts,
    ):
        sweep(parts.destination, TOPIC, 0)
        parts.receiver.take(0, topic_id, 0)
        assert parts.parts() == []
        parts.receiver.receive(LARGE.records())
        assert parts.visible() == {b"large": LARGE.content}


def test_sweep_keeps_what_is_durable_fresh_and_of_this_topic(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive(Sent(bytes(9), b"not durable").records(0, 4)[:1])
        assert len(parts.parts()) == 2
        sweep(parts.destination, TOPIC, 0)
        assert len(parts.parts()) == 1
        sweep(parts.destination, "another", 0)
        assert parts.parts() == []


def test_damaged_partial_is_read_again_and_nothing_is_given_up(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive([*records[:4], *SMALL.records(0, 4)])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
        with (parts.root / ".kfd" / parts.parts()[0]).open("r+b") as file:
            file.write(b"?")
    with life(tmp_path, committed) as parts:
        parts.receiver.receive(at(records[4:], 5))
        assert parts.receiver.take_rewinds() == {0: 0}
        assert parts.visible() == {b"small": SMALL.content}
        parts.receiver.receive([*records[:4], *SMALL.records(0, 4), *at(records[4:], 5)])
        assert parts.visible() == {b"large": LARGE.content, b"small": SMALL.content}
        assert bad(parts) == {}


def test_file_that_is_really_wrong_fails_after_it_was_read_again(tmp_path: Path) -> None:
    wrong = replace(LARGE, digest=bytes(32), tid=os.urandom(16))
    records = wrong.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
    with life(tmp_path, committed) as parts:
        parts.receiver.receive(records[4:])
        assert parts.receiver.take_rewinds() == {0: 0}
        parts.receiver.receive(records)
        assert parts.receiver.take_rewinds() == {}
        assert state(parts, wrong) == ("quarantined", "digest-mismatch")
        assert bad(parts) == {"digest-mismatch": 1}


def test_digests_are_caught_up_in_pieces(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:9])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
    with life(tmp_path, committed) as parts:
        steps = 0
        while parts.receiver.catch_up(10):
            steps += 1
        assert steps == 3
        parts.receiver.receive(records[9:])
        assert parts.visible() == {b"large": LARGE.content}


def test_sync_that_failed_is_not_believed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops what it could not write, and the next fsync says that all is well."""
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(DiskError):
                parts.receiver.checkpoint(leaving=True)
        parts.receiver.resume()
        assert parts.parts() == []
        assert parts.receiver.take_rewinds() == {0: 0}
        assert said(parts).open[0].chunks == 0
        parts.receiver.receive(records)
        assert parts.visible() == {b"large": LARGE.content}


def failing(_fd: int) -> None:
    raise OSError(5, "Input/output error")


# A new owner


def test_new_owner_passes_over_what_has_ended_elsewhere(tmp_path: Path) -> None:
    done, junk = Sent(b"done and done", b"done"), Record(0, 3, None, b"junk")
    large = LARGE.records()
    log = [*at(large[:1], 0), *at(done.records()[:2], 1), junk]
    log += [*at(done.records()[2:], 4), *at(large[1:3], 6)]
    with life(tmp_path / "one") as parts:
        parts.receiver.receive(log)
        assert parts.visible() == {b"done": done.content}
        assert bad(parts) == {"foreign": 1}
        committed = said(parts)
    with life(tmp_path / "other", committed) as parts:
        assert parts.start == 0
        parts.receiver.receive([*log, *at(large[3:], 8)])
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}
        assert parts.receiver.safe_offsets()[0] == 15


def test_new_owner_reads_what_began_after_the_commit(tmp_path: Path) -> None:
    with life(tmp_path, Progress(TOPIC_ID, 3, 3, {})) as parts:
        parts.receiver.receive(LARGE.records(0, 3))
        assert parts.visible() == {b"large": LARGE.content}


def test_owner_that_read_nothing_yet_hides_nothing_from_the_next(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path / "one") as one:
        one.receiver.receive(records[:4])
        committed = said(one)
    with life(tmp_path / "other", committed) as other:
        assert said(other) == committed
        other.receiver.receive(records[:2])
        assert said(other).open.keys() == {0}
        committed = said(other)
    with life(tmp_path / "third", committed) as third:
        third.receiver.receive(records)
        assert third.visible() == {b"large": LARGE.content}


def test_partials_outlive_that_another_host_had_the_partition(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path / "one") as one, life(tmp_path / "other", at=99) as other:
        one.receiver.receive(records[:4])
        one.receiver.checkpoint(leaving=True)
        committed = said(one)
        one.receiver.drop([0])
        assert len(one.parts()) == 1
        other.receiver.take(0, TOPIC_ID, committed.offset, committed)
        other.receiver.receive(records[:6])
        committed = said(other)
        other.receiver.drop([0])
        assert other.parts() == []  # it was not durable
        assert one.receiver.take(0, TOPIC_ID, committed.offset, committed) == 0
        one.receiver.receive(records)
        assert one.visible() == {b"large": LARGE.content}


# Offsets that are lost


def test_lost_offsets_are_counted_and_what_is_open_goes_on(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.reset(0, 50, 90)
        assert bad(parts) == {"offsets-lost": 46}
        parts.receiver.receive(at(records[4:], 50))
        assert parts.visible() == {b"large": LARGE.content}
        assert parts.receiver.safe_offsets()[0] == 56


def test_transfer_that_misses_a_record_after_a_reset_is_closed(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.reset(0, 50, 90)
        parts.receiver.receive(at(records[6:], 50))
        assert state(parts, LARGE) == ("quarantined", "head-lost")
        assert bad(parts)["head-lost"] == 1
        assert parts.parts() == []
        assert parts.receiver.safe_offsets()[0] == 54


def test_reset_counts_only_what_was_not_read_before(tmp_path: Path) -> None:
    with life(tmp_path, Progress(TOPIC_ID, 10, 40, {})) as parts:
        parts.receiver.reset(0, 45, 90)
        assert bad(parts) == {"offsets-lost": 5}


def test_topic_that_was_cut_at_its_end_is_read_anew(tmp_path: Path) -> None:
    with life(tmp_path, at=500) as parts:
        parts.receiver.receive(LARGE.records(0, 500)[:4])
        parts.receiver.reset(0, 3, 9)
        assert parts.receiver.positions()[0] == 3
        parts.receiver.receive(SMALL.records(0, 3))
        assert parts.visible() == {b"small": SMALL.content}
        assert parts.receiver.safe_offsets()[0] == 4


# Idle transfers


def test_transfer_of_which_nothing_comes_expires(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:1])
        parts.receiver.pass_time(3000, [0])
        parts.receiver.receive(records[1:2])
        parts.receiver.pass_time(3000, [0])
        parts.receiver.pass_time(9000, [])  # not read to the end meanwhile
        assert len(parts.parts()) == 1
        parts.receiver.pass_time(600, [0])
        assert state(parts, LARGE) == ("expired", "nothing more of it came for 1h")
        assert bad(parts) == {"expired": 1}
        assert parts.parts() == []
        assert parts.receiver.safe_offsets()[0] == 2
        parts.receiver.receive(records[2:])
        assert parts.visible() == {}


def test_idle_transfer_makes_room(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver._partitions[0].assembler.max_open = 2
        one, two, three = (Sent(bytes(9), b"%d" % n) for n in range(3))
        parts.receiver.receive(one.records()[:1])
        parts.receiver.pass_time(IDLE_SECONDS - 1, [0])
        parts.receiver.receive(two.records(0, 1)[:1])
        parts.receiver.receive(three.records(0, 2)[:1])
        assert bad(parts) == {"too-many-open": 1}
        parts.receiver.pass_time(2, [0])
        parts.receiver.receive(three.records(0, 3))
        assert state(parts, one)[0] == "expired"
        assert "others needed its place" in state(parts, one)[1]
        assert parts.visible() == {b"2": three.content}
        assert {transfer.tid for transfer in parts.receiver.open_transfers()} == {two.tid}


# Space


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


# Newest wins


def test_marks_alone_tell_the_newest_version(tmp_path: Path) -> None:
    """A lost ledger, or one restored from before: what is on disk is newer, also if edited."""
    new, old = Sent(b"new"), Sent(b"old", generation=1)
    with life(tmp_path) as parts:
        parts.receiver.receive(new.records())
    again = replace(new, tid=os.urandom(16))
    with life(tmp_path, ledger="another") as parts:
        parts.receiver.receive([*old.records(), *again.records(0, 1)])
        assert parts.visible() == {b"run.trc": b"new"}
        (parts.root / "run.trc").write_bytes(b"edited")
        parts.receiver.receive(replace(old, tid=os.urandom(16)).records(0, 2))
        assert parts.visible() == {b"run.trc": b"edited"}
        found = parts.ledger.reader().execute("SELECT DISTINCT state FROM incoming").fetchall()
        assert found == [("superseded",)]


# What senders are to be told


def test_lost_and_repeated_transfers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[incoming.Lost] = []
    repeated: list[incoming.Repeated] = []
    monkeypatch.setattr(incoming, "note_lost", lambda _db, _route, some: lost.extend(some))
    monkeypatch.setattr(incoming, "note_repeated", lambda _db, _route, some: repeated.extend(some))
    beheaded, other_topic = Sent(bytes(9)), Sent(b"x")
    other_topic.__dict__["begin"] = replace(other_topic.begin, topic="another")
    with life(tmp_path) as parts:
        parts.receiver.receive(beheaded.records()[1:])
        parts.receiver.receive(other_topic.records(0, 3))
        parts.receiver.receive(SMALL.records(0, 4))
        parts.receiver.receive(SMALL.records(0, 5))
    assert lost == [
        incoming.Lost(TOPIC, beheaded.tid, "head-lost"),
        incoming.Lost(TOPIC, other_topic.tid, "wrong-topic"),
    ]
    assert repeated == [incoming.Repeated(TOPIC_ID, 0, SMALL.tid)]


def test_first_offset_of_what_ended_last(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        reader = parts.ledger.reader()
        assert incoming.last_offset(reader, ROUTE, TOPIC_ID, 0) is None
        parts.receiver.receive([*SMALL.records(0, 7), *Sent(b"x", b"x").records(0, 8)])
        assert incoming.last_offset(reader, ROUTE, TOPIC_ID, 0) == 8
