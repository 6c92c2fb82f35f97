"""A new owner of a partition, offsets that are lost, and transfers of which nothing comes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.incoming.partition import IDLE_SECONDS
from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import beginnings, dropped
from kfd.offsets import Progress
from tests.parts import ROUTE, TOPIC, TOPIC_ID, Sent
from tests.unit.resuming.lives import LARGE, SMALL, at, bad, life, said, state


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
        parts.receiver._reading[0].assembler.max_open = 2
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
        found = dict(parts.ledger.reader().execute("SELECT tid, state FROM incoming").fetchall())
        assert found.pop(again.tid) == "published"  # it is what lies there
        assert set(found.values()) == {"superseded"}


def test_lost_and_repeated_transfers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[dropped.Lost] = []
    repeated: list[dropped.Repeated] = []
    monkeypatch.setattr(dropped, "note_lost", lambda _db, _route, some: lost.extend(some))
    monkeypatch.setattr(dropped, "note_repeated", lambda _db, _route, some: repeated.extend(some))
    beheaded, other_topic = Sent(bytes(9)), Sent(b"x")
    other_topic.__dict__["begin"] = replace(other_topic.begin, topic="another")
    with life(tmp_path) as parts:
        parts.receiver.receive(beheaded.records()[1:])
        parts.receiver.receive(other_topic.records(0, 3))
        parts.receiver.receive(SMALL.records(0, 4))
        parts.receiver.receive(SMALL.records(0, 5))
    assert lost == [
        dropped.Lost(TOPIC, beheaded.tid, "head-lost"),
        dropped.Lost(TOPIC, other_topic.tid, "wrong-topic"),
    ]
    assert repeated == [dropped.Repeated(TOPIC_ID, 0, SMALL.tid)]


def test_first_offset_of_what_ended_last(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        reader = parts.ledger.reader()
        assert beginnings.last_offset(reader, ROUTE, TOPIC_ID, 0) is None
        parts.receiver.receive([*SMALL.records(0, 7), *Sent(b"x", b"x").records(0, 8)])
        assert beginnings.last_offset(reader, ROUTE, TOPIC_ID, 0) == 8
