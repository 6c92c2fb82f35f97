"""Copies for the spool give way to data, and users take turns."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from kfd.daemon.admission import turns
from kfd.daemon.admission.intake import Intake
from kfd.daemon.admission.spool import Spool
from kfd.daemon.admission.turns import SHARE, Turns, Writer
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger
from kfd.daemon.rates import WINDOW_SECONDS, Rates
from kfd.errors import KfdError
from tests.support import eventually

ANNA, BERT = 1001, 1002


def nothing() -> None:
    """Nobody gives up."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as ``turns`` sees it; its waiting makes it go on."""
    now = [1000.0]
    monkeypatch.setattr(turns.time, "monotonic", lambda: now[0])

    def wait(_: object, seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(threading.Condition, "wait", wait)
    return now


def step(one: Turns, uid: int, clock: list[float], seconds: float) -> None:
    ticket = one.take(uid, nothing)
    clock[0] += seconds
    one.give_back(ticket)


def test_nobody_waits_where_no_data_moves(clock: list[float]) -> None:
    one = Turns(lambda: False)
    for _ in range(100):
        step(one, ANNA, clock, 1.0)
    assert clock[0] == pytest.approx(1100)


@pytest.mark.parametrize("users", [1, 3])
def test_all_users_together_have_their_share(clock: list[float], users: int) -> None:
    one = Turns(lambda: True)
    for at in range(120):
        step(one, ANNA + at % users, clock, 0.1)
    assert 12 / (clock[0] - 1000) == pytest.approx(SHARE, rel=0.1)


def test_the_rest_ends_when_the_data_has_passed(clock: list[float]) -> None:
    one = Turns(lambda: clock[0] < 1002)
    step(one, ANNA, clock, 1.0)
    step(one, ANNA, clock, 1.0)
    assert clock[0] < 1004


def test_a_long_step_is_not_paid_for_by_others_for_ever(clock: list[float]) -> None:
    one = Turns(lambda: True)
    step(one, ANNA, clock, 3600.0)
    begun = clock[0]
    step(one, BERT, clock, 0.0)
    assert clock[0] - begun <= turns.LEASE / SHARE


def test_a_step_that_hangs_holds_up_nobody_for_long(clock: list[float]) -> None:
    one = Turns(lambda: True)
    hanging = one.take(ANNA, nothing)
    begun = clock[0]
    one.take(BERT, nothing)
    assert clock[0] - begun == pytest.approx(turns.LEASE)
    one.give_back(hanging)


def test_one_who_gives_up_leaves_the_queue(clock: list[float]) -> None:
    one = Turns(lambda: True)
    held = one.take(ANNA, nothing)

    def give_up() -> None:
        raise KfdError("gone", fix="")

    with pytest.raises(KfdError):
        one.take(ANNA, give_up)
    one.give_back(held)
    step(one, BERT, clock, 0.1)


def test_users_take_turns_however_many_each_of_them_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """One comes with eight threads, the other with one."""
    monkeypatch.setattr(turns, "SHARE", 1.0)
    one = Turns(lambda: True)
    had: Counter[int] = Counter()
    ended = threading.Event()

    def copy(uid: int) -> None:
        while not ended.is_set():
            with Writer(one, uid) as writer:
                writer.next(nothing)
                if had[BERT]:
                    had[uid] += 1
                time.sleep(0.002)  # what it takes
                had[uid] += uid == BERT and not had[BERT]

    threads = [threading.Thread(target=copy, args=(uid,)) for uid in [ANNA] * 8 + [BERT]]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: had[BERT] >= 30)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert had[ANNA] < 3 * had[BERT]


def test_a_copy_has_a_turn_for_each_step(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none is left over."""
    taken: list[int] = []
    made = Spool(ledger, tmp_path / "spool", 1 << 30, 3600.0, lambda: True)
    take = made.turns.take
    monkeypatch.setattr(
        made.turns, "take", lambda uid, check: taken.append(uid) or take(uid, check)
    )
    monkeypatch.setattr("kfd.daemon.admission.copying.STEP", 1000)
    source = tmp_path / "run.trc"
    source.write_bytes(os.urandom(2500))
    version = FileVersion.of(b"run.trc", os.fsencode(source), source.stat(), inodes=True)
    with Intake(made, ANNA, lambda: False) as intake, source.open("rb") as file:
        copied = intake.copy(file.fileno(), version, sized=True)
        assert Path(os.fsdecode(copied.copy)).read_bytes() == source.read_bytes()
    assert taken == [ANNA] * 3
    assert made.turns._holder is None


def test_data_moves_for_some_seconds_after_it_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("kfd.daemon.rates.time.monotonic", lambda: now[0])
    rates = Rates()
    assert not rates.moving()
    rates.add("out", "t", 1)
    assert rates.moving()
    now[0] += WINDOW_SECONDS + 1
    assert not rates.moving()
