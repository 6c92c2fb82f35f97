"""Whose turn it is, and how much a turn holds."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import pytest

from kfd.daemon.ledger import Ledger, outgoing
from kfd.daemon.ledger.outgoing import LARGE, SMALL
from kfd.daemon.outgoing import feed as feed_module
from kfd.daemon.outgoing.lanes import SMALL_AHEAD, TURN_FILES, Turn
from tests.parts import running, version
from tests.support import eventually
from tests.unit.feed.feeding import CHUNK, TOPIC, TURN_BYTES, Feeding, feeding, large, paths, small


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
