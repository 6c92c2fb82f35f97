"""The feed: whose turn it is, what is held in memory, and what is taken up again.

On a real ledger. The topic watch is a real one that was shown a topic; the cluster, of which
resuming asks low watermarks, is a table.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon import feed as feed_module
from kfd.daemon import placement
from kfd.daemon.feed import Feed
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.lanes import SMALL_AHEAD, TURN_FILES, Turn
from kfd.daemon.ledger import Ledger, accepting, endings, outgoing
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Outgoing, Progress
from kfd.daemon.resume import RESUME_SECONDS, Resumption, version_now
from kfd.daemon.sending import Sending
from kfd.daemon.topics import TopicWatch
from kfd.kafka import RECORD_OVERHEAD, BrokerAwayError, Topic
from tests.parts import running, running_ledger, version, version_of
from tests.support import eventually

CHUNK = 1024
TURN_BYTES = 8 * CHUNK
PARTITIONS = 8


class Cluster:
    """Low watermarks as a test sets them."""

    def __init__(self) -> None:
        self.lows: dict[tuple[str, int], int] = {}
        self.away = False
        self.asked = 0

    def low_watermarks(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        self.asked += 1
        if self.away:
            raise BrokerAwayError("away")
        return {one: self.lows.get(one, 0) for one in partitions}


class Feeding:
    """A feed with all that stands around it; the test is the producers and the deliveries."""

    def __init__(self, ledger: Ledger, threads: int, **options: int) -> None:
        self.ledger = ledger
        self.cluster = Cluster()
        self.topics = TopicWatch(self.cluster, Health(), create=False)  # type: ignore[arg-type]
        self.aborted: list[bytes] = []
        resumption = Resumption(
            ledger, self.topics, self.cluster,  # type: ignore[arg-type]
            lambda sending: self.aborted.append(sending.row.tid),
        )  # fmt: skip
        settings = {"chunk_size": CHUNK, "queue_size": 8 * TURN_BYTES} | options
        self.feed = Feed(ledger, self.topics, resumption, threads=threads, **settings)
        self.topics.call_on_change(self.feed.topics_changed)

    def show(self, topic: Topic | None, name: str = "t") -> None:
        """The topic watch sees this topic now."""
        self.topics.want_to_send(name, "lab", CHUNK)
        self.topics._take_over(dict(self.topics._wanted), {name: topic})

    def accept(self, *versions: FileVersion, route: str = "lab", topic: str = "t") -> list[bytes]:
        offer = Offer(route, topic, versions, CHUNK, {})
        accepted = self.ledger.write(lambda db: accepting.accept(db, offer))
        self.feed.add_lane(route, topic)
        self.feed.accepted(route, topic)
        return [one.tid for one in accepted if one.tid is not None]

    def take(self) -> Turn:
        turn = self.feed.take(30)
        assert turn is not None
        return turn

    def idle(self) -> bool:
        """Whether there is no turn to take."""
        turn = self.feed.take(0.05)
        if turn is not None:
            self.feed.give_back(turn, turn.sendings)
        return turn is None

    def serve(self, turn: Turn, *, end: bool = True) -> list[Sending]:
        """Send what a turn allows, as if acknowledged at once; the files that are done."""
        for sending in turn.sendings:
            left = sending.begin.chunks - sending.next_index
            sending.next_index += min(left, turn.max_records)
        done = [one for one in turn.sendings if one.read_to_end]
        self.feed.give_back(turn, [one for one in turn.sendings if one not in done])
        if end:
            self.end(done)
        return done

    def serve_all(self) -> Iterator[Sending]:
        """Send until nothing is queued or being sent."""
        deadline = time.monotonic() + 60
        while outgoing.destinations(self.ledger.reader()):
            assert time.monotonic() < deadline
            turn = self.feed.take(0.1)
            if turn is not None:
                yield from self.serve(turn)

    def end(self, done: list[Sending]) -> None:
        batch = [Ending(one.row, "in_kafka", one.acked) for one in done]
        self.ledger.write(lambda db: endings.end(db, batch))
        self.feed.released(done)

    def row(self, tid: bytes) -> tuple[str, int | None]:
        row: tuple[str, int | None] = (
            self.ledger.reader()
            .execute("SELECT state, partition FROM outgoing WHERE tid = ?", (tid,))
            .fetchone()
        )
        return row


TOPIC = Topic("t", "topic-1", PARTITIONS)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with running_ledger(tmp_path / "state") as ledger:
        yield ledger


@contextmanager
def feeding(ledger: Ledger, threads: int = 3, **options: int) -> Iterator[Feeding]:
    one = Feeding(ledger, threads, **options)
    one.feed.add_lane("lab", "t")
    one.show(TOPIC)
    with running(one.feed):
        yield one


def small(n: int) -> FileVersion:
    return version(b"small/%d" % n, size=10)


def large(n: int, chunks: int = 100) -> FileVersion:
    return version(b"large/%d" % n, size=chunks * CHUNK)


def paths(turn: Turn) -> list[bytes]:
    return [one.row.path for one in turn.sendings]


def test_queued_file_is_claimed_before_it_is_given_out(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        (tid,) = one.accept(small(1))
        turn = one.take()
        assert paths(turn) == [b"small/1"]
        state, partition = one.row(tid)
        assert state == "sending"
        assert turn.sendings[0].partition == partition
        assert (turn.records, turn.size) == (1, 10)
        one.serve(turn)
        assert one.row(tid)[0] == "in_kafka"
        assert one.idle()


def test_nothing_is_given_out_without_a_usable_topic(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.show(None)
        (tid,) = one.accept(small(1))
        assert one.idle()
        assert one.row(tid) == ("queued", None)
        one.show(replace(TOPIC, compacted=True))
        assert one.idle()
        one.show(TOPIC)
        assert paths(one.take()) == [b"small/1"]


def test_take_ends_when_the_feed_is_stopped(ledger: Ledger) -> None:
    one = Feeding(ledger, 1)
    answers: list[Turn | None] = []
    taker = threading.Thread(target=lambda: answers.append(one.feed.take(3600)))
    with running(one.feed):
        taker.start()
    taker.join(30)
    assert answers == [None]


def test_small_files_share_a_turn_up_to_its_bounds(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(200)))
        eventually(lambda: len(one.feed._lanes.lane("lab", "t").small) == 200)
        turn = one.take()
        assert len(turn.sendings) == turn.records == TURN_FILES
        full = [version(b"full/%d" % n, size=CHUNK) for n in range(40)]
        one.accept(*full)
        one.serve(turn)
        sizes = []
        while sum(sizes) < 40 * CHUNK + 136 * 10:
            turn = one.take()
            sizes.append(turn.size)
            one.serve(turn)
        assert max(sizes) <= TURN_BYTES


def test_large_file_gets_turns_of_bounded_size(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(large(1, chunks=20))
        seen = []
        for _ in range(3):
            turn = one.take()
            seen.append((turn.records, turn.size))
            one.serve(turn)
        assert seen == [(8, 8 * CHUNK), (8, 8 * CHUNK), (4, 4 * CHUNK)]
        assert one.idle()


def test_large_files_leave_a_thread_for_small_ones(ledger: Ledger) -> None:
    with feeding(ledger, threads=3) as one:
        one.accept(*(large(n) for n in range(5)))
        turns = [one.take(), one.take()]
        assert {turn.kind for turn in turns} == {LARGE}
        assert one.idle()
        one.accept(small(1))
        assert one.take().kind == SMALL


def test_one_thread_alternates_between_a_huge_file_and_small_ones(ledger: Ledger) -> None:
    with feeding(ledger, threads=1) as one:
        one.accept(large(1, chunks=1000), *(small(n) for n in range(300)))
        lane = one.feed._lanes.lane("lab", "t")
        eventually(lambda: len(lane.small) == 300 and lane.large)
        kinds = []
        for _ in range(8):
            turn = one.take()
            kinds.append(turn.kind)
            one.serve(turn)
        assert abs(kinds.count(LARGE) - kinds.count(SMALL)) <= 1


def test_routes_take_turns(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.feed.add_lane("other", "t")
        one.accept(*(small(n) for n in range(500)))
        one.accept(*(small(n) for n in range(500)), route="other")
        lanes = one.feed._lanes
        eventually(lambda: all(len(lane.small) == 500 for lane in lanes))
        routes = Counter()
        for _ in range(8):
            turn = one.take()
            routes[turn.lane.route] += 1
            one.serve(turn)
        assert routes == {"lab": 4, "other": 4}


def test_new_small_file_overtakes_a_backlog_and_a_huge_file(ledger: Ledger) -> None:
    """10,000 files and one without end wait; a new one goes out soon."""
    with feeding(ledger) as one:
        one.accept(large(1, chunks=1_000_000), *(small(n) for n in range(10_000)))
        for _ in range(4):
            one.serve(one.take())
        one.accept(version(b"new", size=10))
        before = 0
        while b"new" not in paths(turn := one.take()):
            before += len(turn.sendings)
            one.serve(turn)
            assert before < 3 * SMALL_AHEAD


def test_new_large_file_overtakes_a_backlog_of_large_ones(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(large(n, chunks=8) for n in range(500)))
        for _ in range(5):
            one.serve(one.take())
        one.accept(version(b"new", size=8 * CHUNK))
        before = 0
        while paths(turn := one.take()) != [b"new"]:
            one.serve(turn)
            before += 1
            assert before < 20


def test_backlog_is_not_held_in_memory(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(2 * SMALL_AHEAD)), *(large(n) for n in range(1000)))
        lane = one.feed._lanes.lane("lab", "t")
        taken = []
        for _ in range(20):
            turn = one.take()
            assert len(lane.small) <= SMALL_AHEAD
            assert lane.large_open <= 2
            taken.append(turn)
            one.serve(turn, end=False)
        eventually(lambda: len(lane.small) == SMALL_AHEAD)
        sending = len(outgoing.sending(ledger.reader()))
        given = sum(len(turn.sendings) for turn in taken if turn.kind == SMALL)
        assert sending <= SMALL_AHEAD + given + 2


def test_every_file_gets_its_turn_once(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(1500)), *(large(n, 9) for n in range(10)))
        seen: Counter[bytes] = Counter()
        seen.update(sending.row.path for sending in one.serve_all())
        assert len(seen) == 1510
        assert set(seen.values()) == {1}
        assert outgoing.destinations(ledger.reader()) == []
        assert one.feed.unfinished() == []


def test_rate_limit_spaces_turns(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    one = Feeding(ledger, 2)
    one.show(TOPIC)
    one.feed.add_lane("lab", "t", rate=TURN_BYTES / 100)  # a full turn is worth 100 s
    one.feed.add_lane("free", "t")
    with running(one.feed):
        one.accept(large(1), small(1))
        one.accept(*(small(n) for n in range(100)), route="free")
        eventually(lambda: all(lane.small for lane in one.feed._lanes))
        eventually(lambda: one.feed._lanes.lane("lab", "t").large)
    with one.feed._changed:
        monkeypatch.setattr(feed_module.time, "monotonic", lambda: clock[0])
        routes = []
        for _ in range(9):
            turn = one.feed._lanes.next_turn(clock[0])
            if turn is None:
                clock[0] = one.feed._lanes.next_free(clock[0])
                continue
            routes.append((turn.lane.route, clock[0]))
            one.feed._lanes.give_back(turn, turn.sendings if turn.kind == LARGE else [])
        monkeypatch.undo()
    limited = [at for route, at in routes if route == "lab"]
    assert ("free", 1000.0) in routes  # the other route needn't wait
    assert limited[0] == 1000.0
    assert limited[-1] >= 1100.0


def test_versions_of_a_path_lie_in_one_partition(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "RUN_BYTES", 1)
    with feeding(ledger) as one:
        seen: dict[bytes, set[int]] = {}
        for size in (10, 20, 5 * CHUNK, 30):
            files = [version(b"%d" % n, size=size + n) for n in range(30)]
            one.accept(*files)
            for sending in one.serve_all():
                seen.setdefault(sending.row.path, set()).add(sending.partition)
        assert {len(partitions) for partitions in seen.values()} == {1}
        assert len({partition for some in seen.values() for partition in some}) == PARTITIONS


def test_two_versions_in_one_claim_lie_in_one_partition(ledger: Ledger) -> None:
    one = Feeding(ledger, 3)
    one.feed.add_lane("lab", "t")
    for n in range(10):  # other sources: none gives way
        one.accept(version(b"x", size=10, source=b"/%d" % n, inode=100 + n))
    one.show(TOPIC)
    with running(one.feed):
        turn = one.take()
        assert len(turn.sendings) == 10
        assert len({sending.partition for sending in turn.sendings}) == 1


def test_more_partitions_move_no_path(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(50)))
        before = {sent.row.path: sent.partition for sent in one.serve_all()}
        one.show(replace(TOPIC, partitions=50))
        one.accept(*(version(path, size=11) for path in before))
        after = {sent.row.path: sent.partition for sent in one.serve_all()}
        assert after == before


def test_topic_made_again_is_placed_anew(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(20)))
        assert list(one.serve_all())
        one.show(Topic("t", "topic-2", 1))
        one.accept(*(version(b"small/%d" % n, size=11) for n in range(20)))
        assert {sending.partition for sending in one.serve_all()} == {0}


# Interruptions


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


def test_ended_transfers_weigh_on_no_partition(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(600)), *(large(n, 9) for n in range(5)))
        assert list(one.serve_all())
        assert one.feed._placements["t"]._load == [0] * PARTITIONS


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
