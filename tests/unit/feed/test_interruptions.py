"""Transfers that were interrupted go on, or start over."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, outgoing
from kfd.daemon.ledger.outgoing import SMALL, Outgoing, Progress
from kfd.daemon.outgoing import feed as feed_module
from kfd.daemon.outgoing.resume import RESUME_SECONDS, version_now
from kfd.kafka import RECORD_OVERHEAD, Topic
from tests.parts import running, version_of
from tests.support import eventually
from tests.unit.feed.feeding import CHUNK, PARTITIONS, TOPIC, Feeding, feeding, large, paths, small


def interrupted(ledger: Ledger, *files: FileVersion, acked: int = 0, first: int = 7) -> list[bytes]:
    """An earlier life began to send these and was killed."""
    with feeding(ledger) as one:
        tids = one.accept(*files)
        eventually(lambda: {one.row(tid)[0] for tid in tids} == {"sending"})
    if acked:
        progress = [
            Progress(row.id, acked, first, time.time()) for row in outgoing.sending(ledger.reader())
        ]
        ledger.write(lambda db: outgoing.note_progress(db, progress))
    return tids


def test_interrupted_transfer_goes_on_under_its_tid(ledger: Ledger) -> None:
    (tid,) = interrupted(ledger, large(1, 5), acked=2)
    with feeding(ledger) as one:
        turn = one.take()
        (sending,) = turn.sendings
        assert (sending.row.tid, sending.next_index, sending.first_offset) == (tid, 2, 7)
        assert (turn.records, turn.size) == (3, 3 * CHUNK)
        one.serve(turn)
        assert one.row(tid)[0] == "in_kafka"
        assert one.aborted == []


def test_interrupted_transfer_waits_for_the_brokers(ledger: Ledger) -> None:
    interrupted(ledger, large(1, 5), acked=2)
    one = Feeding(ledger, 3)
    one.cluster.away = True
    one.feed.add_lane("lab", "t")
    one.show(TOPIC)
    with running(one.feed):
        eventually(lambda: one.cluster.asked)
        assert one.idle()
        one.cluster.away = False
        one.feed.topics_changed()
        assert paths(one.take()) == [b"large/1"]


@pytest.mark.parametrize(
    ("topic", "low", "age", "why", "aborts"),
    [
        (Topic("t", "topic-2", PARTITIONS), 0, 0, "made again", False),
        (replace(TOPIC, max_record=CHUNK + RECORD_OVERHEAD), 8, 0, "no longer in", True),
        (TOPIC, 0, RESUME_SECONDS + 1, "too long", True),
    ],
)
def test_what_cannot_go_on_starts_over(
    ledger: Ledger, topic: Topic, low: int, age: float, why: str, aborts: bool
) -> None:
    (tid,) = interrupted(ledger, large(1, 5), acked=2)
    (row,) = outgoing.sending(ledger.reader())
    old = [Progress(row.id, 2, 7, time.time() - age)]
    ledger.write(lambda db: outgoing.note_progress(db, old))
    one = Feeding(ledger, 3)
    one.cluster.lows = {("t", row.partition or 0): low}
    one.feed.add_lane("lab", "t")
    one.show(topic)
    with running(one.feed):
        (sending,) = one.take().sendings
        assert sending.row.tid != tid
        assert (sending.next_index, sending.row.topic_id) == (0, topic.topic_id)
        assert one.row(tid)[0] == "cancelled"
        assert one.aborted == ([tid] if aborts else [])
        (reason,) = ledger.reader().execute(
            "SELECT reason FROM outgoing WHERE tid = ?", (tid,)
        ).fetchone()  # fmt: skip
        assert why in reason


def test_interruption_within_a_life_is_taken_up_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RETRY_SECONDS", 0.01)
    with feeding(ledger) as one:
        (tid,) = one.accept(large(1, 5))
        turn = one.take()
        one.feed.give_back(turn, [])
        one.feed.released(turn.sendings, resume=True)
        (again,) = one.take().sendings
        assert again.row.tid == tid
        assert again is not turn.sendings[0]


def test_interruption_during_a_look_is_not_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deliveries stage hands a transfer back while the feed looks for such ones."""
    monkeypatch.setattr(feed_module, "RETRY_SECONDS", 0.01)
    with feeding(ledger) as one:
        one.accept(large(1, 5))
        turn = one.take()
        one.feed.give_back(turn, [])
        look, waiting = outgoing.sending, [turn.sendings]

        def look_and_interrupt(reader: object) -> list[Outgoing]:
            rows = look(reader)  # type: ignore[arg-type]
            while waiting:
                one.feed.released(waiting.pop(), resume=True)
            return rows

        monkeypatch.setattr(outgoing, "sending", look_and_interrupt)
        one.feed.topics_changed()
        eventually(lambda: not waiting)
        assert paths(one.take()) == [b"large/1"]


def test_end_during_a_look_is_not_taken_for_an_interruption(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with feeding(ledger) as one:
        (tid,) = one.accept(large(1, 5))
        turn = one.take()
        one.feed.give_back(turn, [])
        look, waiting = outgoing.sending, [turn.sendings]

        def look_and_end(reader: object) -> list[Outgoing]:
            rows = look(reader)  # type: ignore[arg-type]
            while waiting:
                one.end(waiting.pop())
            return rows

        monkeypatch.setattr(outgoing, "sending", look_and_end)
        one.feed.topics_changed()
        eventually(lambda: not waiting)
        assert one.idle()
        assert one.row(tid)[0] == "in_kafka"


def test_file_that_changes_while_it_is_to_settle_waits_on(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "run.trc"
    path.write_bytes(b"first")
    one = Feeding(ledger, 3)
    one.accept(version_of(path))
    ledger.write(lambda db: db.execute("UPDATE outgoing SET not_before = 1"))
    path.write_bytes(b"second version")
    one.show(TOPIC)
    one.feed.add_lane("lab", "t")
    with running(one.feed):
        look = "SELECT size, not_before > 1, state FROM outgoing"
        eventually(lambda: ledger.reader().execute(look).fetchone() == (14, 1, "queued"))
        assert one.idle()
        ledger.write(lambda db: db.execute("UPDATE outgoing SET not_before = 1"))
        one.feed.accepted("lab", "t")
        (sending,) = one.take().sendings
        assert sending.begin.size == 14


def test_version_now_sees_only_regular_files(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    one = Feeding(ledger, 1)
    one.accept(version_of(path))
    (waiting,) = outgoing.waiting(ledger.reader(), "lab", "t", SMALL, newest=False, limit=1)
    row = waiting
    seen = version_now(row)
    assert seen is not None
    assert seen.same_content(version_of(path))
    path.unlink()
    assert version_now(row) is None
    os.mkfifo(path)
    assert version_now(row) is None


def test_cancelled_between_look_and_claim_is_left_alone(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = outgoing.claim

    def cancel_and_claim(db: Any, claims: list[outgoing.Claim]) -> set[int]:
        db.execute("UPDATE outgoing SET state = 'cancelled' WHERE id = ?", (claims[0].id,))
        return claim(db, claims)

    monkeypatch.setattr(outgoing, "claim", cancel_and_claim)
    with feeding(ledger) as one:
        (tid,) = one.accept(small(1))
        eventually(lambda: one.row(tid)[0] == "cancelled")
        assert one.idle()
        assert one.feed._placements["t"]._load == [0] * PARTITIONS
