"""Looks that hang, fail or are slow never hold up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from kfd.control.examination import Check, Outcome
from kfd.daemon.doctor.rounds import AT_ONCE, Look, Rounds
from kfd.errors import KfdError
from kfd.examination.checks import well


def look(name: str, *before: Callable[[], object], seconds: float = 30.0) -> Look:
    def run() -> Iterable[Check]:
        for step in before:
            step()
        yield well(name, "seen")

    return Look(name, run, seconds, hung="mend it")


def refuse() -> None:
    raise KfdError("no", fix="yes")


def fail() -> None:
    raise OSError(5, "Input/output error")


def break_down() -> None:
    raise ZeroDivisionError


def test_checks_come_in_the_order_of_the_looks() -> None:
    second_began = threading.Event()
    looks = [look("a", lambda: second_began.wait(20)), look("b", second_began.set), look("c")]
    assert [check.name for check in Rounds().make(looks)] == ["a", "b", "c"]


def test_what_a_look_raises_is_its_outcome() -> None:
    looks = [look("a", refuse), look("b", fail), look("c", break_down), look("d")]
    found = list(Rounds().make(looks))
    assert [check.outcome for check in found] == [Outcome.FAIL] * 3 + [Outcome.OK]
    assert all(check.fix for check in found[:3])


def test_a_look_that_hangs_is_told_of_and_not_begun_again() -> None:
    rounds, over, begun = Rounds(), threading.Event(), []

    def hang() -> None:
        begun.append(1)
        over.wait(60)

    looks = [look("share", hang, seconds=0.2), look("other")]
    share, other = rounds.make(looks)
    assert (share.outcome, other.outcome) == (Outcome.FAIL, Outcome.OK)
    assert share.fix == "mend it"
    still, _ = rounds.make(looks)
    assert still.text.startswith("still no answer")
    assert len(begun) == 1
    over.set()
    deadline = time.monotonic() + 20
    while any(thread.name == "doctor-share" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
    assert next(iter(rounds.make(looks))).outcome is Outcome.OK
    assert len(begun) == 2


def test_not_too_many_at_once() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    full = threading.Event()

    def count() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == AT_ONCE:
                full.set()
        full.wait(20)
        with lock:
            now[0] -= 1

    found = list(Rounds().make([look(str(n), count) for n in range(3 * AT_ONCE)]))
    assert len(found) == 3 * AT_ONCE
    assert most[0] == AT_ONCE


def test_many_that_hang_do_not_keep_the_others_from_being_made() -> None:
    over = threading.Event()
    looks = [look(f"h{n}", lambda: over.wait(60), seconds=0.2) for n in range(AT_ONCE)]
    try:
        found = list(Rounds().make([*looks, look("last")]))
    finally:
        over.set()
    assert found[-1] == well("last", "seen")
