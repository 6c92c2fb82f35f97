"""The budget: never more in flight than was allowed, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from kfd.daemon.outgoing.budget import Budget
from tests.support import eventually


def nothing() -> None:
    """To do while waiting."""


def asynchronously(call: Callable[[], bool]) -> Future[bool]:
    future: Future[bool] = Future()
    threading.Thread(target=lambda: future.set_result(call()), daemon=True).start()
    return future


def waiting(budget: Budget) -> int:
    return len(budget._changed._waiters)  # type: ignore[attr-defined]


def test_what_fits_is_granted_and_given_back() -> None:
    budget = Budget(10, 100)
    assert budget.acquire(4, 60, nothing)
    assert budget.acquire(6, 40, nothing)
    assert budget.used() == (10, 100)
    budget.release(4, 60)
    assert budget.used() == (6, 40)


@pytest.mark.parametrize(("records", "size"), [(1, 0), (0, 1), (7, 1), (1, 50)])
def test_what_does_not_fit_waits(records: int, size: int) -> None:
    budget = Budget(10, 100)
    budget.acquire(10, 100, nothing)
    granted = asynchronously(lambda: budget.acquire(records, size, nothing))
    eventually(lambda: waiting(budget))
    assert not granted.done()
    budget.release(10, 100)
    assert granted.result(30)
    assert budget.used() == (records, size)


def test_what_is_larger_than_all_passes_alone() -> None:
    budget = Budget(10, 100)
    budget.acquire(1, 1, nothing)
    large = asynchronously(lambda: budget.acquire(11, 1000, nothing))
    eventually(lambda: waiting(budget))
    assert not large.done()
    budget.release(1, 1)
    assert large.result(30)
    small = asynchronously(lambda: budget.acquire(1, 1, nothing))
    eventually(lambda: waiting(budget))
    assert not small.done()
    budget.release(11, 1000)
    assert small.result(30)


@pytest.mark.parametrize("size", [70, 1000])
def test_large_request_is_not_starved_by_small_ones(size: int) -> None:
    """Room that becomes free goes to who waits longest, or a huge file waits for ever."""
    budget = Budget(1000, 100)
    budget.acquire(1, 40, nothing)
    large = asynchronously(lambda: budget.acquire(1, size, nothing))
    eventually(lambda: waiting(budget) or large.done())
    small: list[Future[bool]] = []
    for _ in range(200):  # there is always one small request in flight
        small.append(asynchronously(lambda: budget.acquire(1, 40, nothing)))
        eventually(lambda: small[-1].done() or waiting(budget) > 1 or large.done())
        budget.release(1, 40)
        if large.done():
            break
        eventually(lambda: small[-1].done() or large.done())
    starved = not large.done()
    budget.close()
    assert not starved


def test_close_wakes_all_who_wait_and_refuses_the_others() -> None:
    budget = Budget(1, 1)
    budget.acquire(1, 1, nothing)
    waiters = [asynchronously(lambda: budget.acquire(1, 1, nothing)) for _ in range(5)]
    eventually(lambda: waiting(budget) == 5)
    budget.close()
    assert [waiter.result(30) for waiter in waiters] == [False] * 5
    assert budget.acquire(1, 1, nothing) is False
    assert budget.used() == (1, 1)
    budget.release(1, 1)
    assert budget.used() == (0, 0)


def test_waiting_thread_says_that_it_lives() -> None:
    budget = Budget(1, 1)
    budget.acquire(1, 1, nothing)
    beats = threading.Event()
    asynchronously(lambda: budget.acquire(1, 1, beats.set))
    assert beats.wait(30)
    budget.close()


def test_bound_holds_under_many_threads() -> None:
    budget = Budget(20, 1000)
    over: list[tuple[int, int]] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(300):
            records, size = chance.randint(1, 8), chance.randint(0, 400)
            assert budget.acquire(records, size, nothing)
            used = budget.used()
            if used[0] > 20 or used[1] > 1000:
                over.append(used)
            first = chance.randint(0, size) if records > 1 else 0
            budget.release(records - 1, first)
            budget.release(1, size - first)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert over == []
    assert budget.used() == (0, 0)


def test_nothing_granted_is_nothing_owed() -> None:
    """A turn of files that were acknowledged whole before: no records, no bytes."""
    budget = Budget(10, 100)
    assert budget.acquire(0, 0, nothing)
    budget.release(0, 0)
    assert budget.used() == (0, 0)
