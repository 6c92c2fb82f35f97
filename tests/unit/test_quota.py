"""Shares of the spool: what one user takes always leaves something for the next."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon.admission.quota import Quota

LIMIT = 1200


def fill(quota: Quota, uid: int, piece: int = 1) -> int:
    """Take all that a user gets; how much that is."""
    taken = 0
    while quota.take(uid, piece):
        taken += piece
    return taken


def test_one_user_may_have_half_and_the_next_half_of_the_rest() -> None:
    quota = Quota(LIMIT)
    assert [fill(quota, uid) for uid in (1, 2, 3)] == [600, 300, 150]
    assert quota.used == 1050


def test_users_who_come_together_have_equal_shares() -> None:
    quota = Quota(LIMIT)
    taken = dict.fromkeys(range(5), 0)
    going = set(taken)
    while going:
        for uid in list(going):
            if quota.take(uid, 1):
                taken[uid] += 1
            else:
                going.remove(uid)
    assert set(taken.values()) == {LIMIT // 6}


def test_what_is_missing_is_enough() -> None:
    quota = Quota(LIMIT)
    fill(quota, 1)
    missing = quota.missing(1, 100)
    quota.give_back(1, missing)
    assert missing == 100
    assert quota.take(1, 100)
    assert not quota.take(1, 1)


def test_lower_limit_takes_nothing_more_until_that_has_gone() -> None:
    quota = Quota(LIMIT)
    quota.count(1, 500)
    quota.limit = 100
    assert not quota.take(1, 1)
    assert not quota.take(2, 1)
    quota.give_back(1, 500)
    assert quota.used == 0
    assert fill(quota, 2) == 50


Step = tuple[int, int]  # user, and the bytes that are taken, or given back where it is below 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-300, 300))))
def test_whatever_is_taken_the_next_user_finds_room(steps: list[Step]) -> None:
    quota = Quota(LIMIT)
    held = dict.fromkeys(range(5), 0)
    for uid, size in steps:
        if size < 0:
            back = min(held[uid], -size)
            quota.give_back(uid, back)
            held[uid] -= back
        elif quota.take(uid, size):
            held[uid] += size
            assert held[uid] <= LIMIT - sum(held.values())
        else:
            assert quota.missing(uid, size) > 0
    assert quota.used == sum(held.values())
    assert quota.most(99) == (LIMIT - sum(held.values())) // 2 > 0


def test_threads_take_no_more_than_there_is() -> None:
    quota = Quota(LIMIT)
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.append(fill(quota, 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == quota.used == LIMIT // 2
