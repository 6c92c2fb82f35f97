"""Transactions: shared by those who wait, undone alone, seen whole."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest

from kfd.daemon.ledger import Ledger, LedgerError, database
from tests.parts import close_reader, running_ledger
from tests.unit.ledger.keys import add, keys


def test_what_was_written_can_be_read_by_all_threads(ledger: Ledger) -> None:
    ledger.write(add("a"))
    seen: list[set[str]] = []
    thread = threading.Thread(target=lambda: seen.append(keys(ledger)))
    thread.start()
    thread.join()
    assert seen == [{"a"}] == [keys(ledger)]


def test_write_gives_what_the_operation_returns(ledger: Ledger) -> None:
    assert ledger.write(lambda _: 42) == 42


def test_reader_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.reader().execute("DELETE FROM identity")


class Held:
    """The writer, held in an operation: what is submitted meanwhile becomes one group."""

    def __init__(self, ledger: Ledger) -> None:
        self._entered = threading.Event()
        self._gate = threading.Event()
        self._held = ledger.submit(self._hold)
        assert self._entered.wait(30)

    def _hold(self, _: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._gate.wait(30)

    def let_go(self) -> None:
        self._gate.set()
        self._held.result(30)


def test_operation_that_fails_is_undone_alone(ledger: Ledger) -> None:
    def half(writer: sqlite3.Connection) -> None:
        add("half")(writer)
        raise ValueError("no")

    held = Held(ledger)
    futures = [ledger.submit(one) for one in (add("a"), half, add("a"), add("b"))]
    held.let_go()
    wait(futures, 30)
    failures = [type(future.exception()) for future in futures]
    assert failures == [type(None), ValueError, sqlite3.IntegrityError, type(None)]
    assert keys(ledger) == {"a", "b"}


def test_operations_that_wait_share_a_commit(ledger: Ledger) -> None:
    held = Held(ledger)
    before = ledger.wait_for_change(-1, 0)
    futures = [ledger.submit(add(str(n))) for n in range(100)]
    held.let_go()
    wait(futures, 30)
    assert ledger.wait_for_change(before, 30) - before <= 2  # the holder's, and theirs


def test_group_larger_than_its_limit_is_committed_all_the_same(ledger: Ledger) -> None:
    held = Held(ledger)
    futures = [ledger.submit(add(str(n))) for n in range(database.GROUP_LIMIT * 2 + 1)]
    held.let_go()
    assert not wait(futures, 30).not_done
    assert len(keys(ledger)) == len(futures)


def test_order_of_submission_is_kept(ledger: Ledger) -> None:
    held = Held(ledger)
    order: list[int] = []
    futures = [ledger.submit(lambda _, n=n: order.append(n)) for n in range(50)]
    held.let_go()
    wait(futures, 30)
    assert order == list(range(50))


def test_stop_writes_what_was_submitted(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        held = Held(ledger)
        futures = [ledger.submit(add(str(n))) for n in range(10)]
        ledger.stop()
        held.let_go()
        assert not wait(futures, 30).not_done
    with running_ledger(tmp_path) as ledger:
        assert len(keys(ledger)) == 10


def test_write_after_the_end_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        pass
    answers: list[object] = []

    def late() -> None:
        try:
            answers.append(ledger.write(add("late")))
        except LedgerError as error:
            answers.append(error)

    thread = threading.Thread(target=late, daemon=True)
    thread.start()
    thread.join(5)
    assert [type(one) for one in answers] == [LedgerError]


def test_wait_for_change_is_woken_by_a_commit(ledger: Ledger) -> None:
    seen = ledger.wait_for_change(-1, 0)
    assert ledger.wait_for_change(seen, 0) == seen
    newest: list[int] = []
    waiter = threading.Thread(target=lambda: newest.append(ledger.wait_for_change(seen, 30)))
    waiter.start()
    ledger.write(add("a"))
    waiter.join(30)
    assert newest
    assert newest[0] > seen


def test_readers_of_many_threads_see_commits_whole(ledger: Ledger) -> None:
    """Rows that are written in one operation are seen both or not at all."""
    stop = threading.Event()
    torn: list[int] = []

    def look() -> None:
        while not stop.is_set():
            (count,) = ledger.reader().execute("SELECT count(*) FROM identity").fetchone()
            if count % 2:
                torn.append(count)
        close_reader(ledger)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(100):
        ledger.write(lambda db, n=n: (add(f"{n}a")(db), add(f"{n}b")(db)))
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_stage_of_the_ledger_ends_in_order(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        assert ledger.alive
        assert [one.name for one in threading.enumerate()].count("ledger") == 1
    assert not ledger.alive
