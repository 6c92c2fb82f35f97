"""Lanes: another thread joins those that read small files only where these take long."""

from __future__ import annotations

from kfd.daemon.outgoing.lanes import JOIN_SECONDS, TURN_FILES, Lanes
from kfd.daemon.outgoing.sending import Sending
from tests.parts import outgoing_row

CHUNK = 1024


def lanes_with(files: int, size: int = 10) -> Lanes:
    lanes = Lanes(turn_bytes=1 << 20, max_large=4)
    lanes.add("lab", "t", None)
    for number in range(files):
        lanes.put(Sending(outgoing_row(number, size, CHUNK), "origin", bytes(16)))
    return lanes


def test_quick_turns_of_small_files_are_one_threads() -> None:
    lanes = lanes_with(3 * TURN_FILES)
    first = lanes.next_turn(100.0)
    assert first is not None
    assert lanes.next_turn(100.0 + JOIN_SECONDS / 2) is None
    assert lanes.next_free(100.0 + JOIN_SECONDS / 2) == 100.0 + JOIN_SECONDS
    lanes.give_back(first, [])
    assert lanes.next_turn(100.0 + JOIN_SECONDS / 2) is not None


def test_other_threads_join_where_a_turn_lasts() -> None:
    lanes = lanes_with(4 * TURN_FILES)
    taken = [lanes.next_turn(100.0 + n * JOIN_SECONDS) for n in range(4)]
    assert all(taken)
    assert lanes.next_free(200.0) == float("inf")  # nothing is left to wait for


def test_large_files_do_not_wait_for_small_ones() -> None:
    lanes = lanes_with(1)
    lanes.put(Sending(outgoing_row(7, 10 * CHUNK, CHUNK), "origin", bytes(16)))
    assert lanes.next_turn(100.0) is not None
    assert lanes.next_turn(100.0) is not None
