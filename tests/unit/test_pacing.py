"""How much of the processor a user of the control socket may take."""

from __future__ import annotations

import threading
import time

import pytest

from kfd.daemon.server import pacing
from kfd.daemon.server.pacing import ALLOWANCE, CONNECTION, LONGEST_PAUSE, SHARE, Meter, Pacing

ANNA, BERT = 1001, 1002
START = 1000.0


def used_for_long(one: Pacing, uid: int, each: float, until: float) -> float:
    """What a user gets who asks again and again as soon as he may."""
    now, used = START, 0.0
    while now < until:
        used += each
        now += each + one.pause(uid, each, now + each)
    return used


@pytest.mark.parametrize("each", [0.001, 0.1, 1.0])
def test_who_asks_without_end_gets_a_share(each: float) -> None:
    used = used_for_long(Pacing(), ANNA, each, START + 1000)
    assert 0.95 * SHARE * 1000 <= used <= ALLOWANCE + 1.05 * SHARE * 1000 + each


def test_a_few_questions_are_answered_at_once() -> None:
    one = Pacing()
    assert [one.pause(ANNA, ALLOWANCE / 10, START) for _ in range(10)] == [0.0] * 10
    assert one.pause(ANNA, SHARE, START) == pytest.approx(1.0)


def test_the_allowance_comes_back() -> None:
    one = Pacing()
    one.pause(ANNA, ALLOWANCE, START)
    assert one.pause(ANNA, ALLOWANCE, START + ALLOWANCE / SHARE) == 0.0


def test_users_do_not_pay_for_one_another() -> None:
    one = Pacing()
    one.pause(ANNA, 100 * ALLOWANCE, START)
    assert one.pause(BERT, ALLOWANCE, START) == 0.0


def test_no_pause_is_very_long() -> None:
    one = Pacing()
    assert one.pause(ANNA, 1e9, START) == LONGEST_PAUSE
    assert one.pause(ANNA, 0.0, START + LONGEST_PAUSE) == 0.0


def test_owners_are_never_slowed_down() -> None:
    assert Pacing().pause(0, 1e9, START) == 0.0


def test_meter_waits_and_ends_with_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([1.0, 1.0 + ALLOWANCE + SHARE / 100, 1e9])
    monkeypatch.setattr(pacing, "_used", lambda: next(used))
    stopping = threading.Event()
    meter = Meter(Pacing(), ANNA, stopping)
    begun = time.monotonic()
    meter.rest()
    assert time.monotonic() - begun >= 0.009
    stopping.set()
    meter.rest()
    assert time.monotonic() - begun < LONGEST_PAUSE


def test_a_connection_counts_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who connects without end would have the server make threads without end."""
    monkeypatch.setattr(pacing, "_used", lambda: 0.0)
    one, waited = Pacing(), []
    stopping = threading.Event()
    monkeypatch.setattr(stopping, "wait", waited.append)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: START)
    for _ in range(round(ALLOWANCE / CONNECTION) + 10):
        Meter(one, ANNA, stopping).rest()
    assert len(waited) == pytest.approx(10, abs=1)
    assert waited[-1] == pytest.approx(10 * CONNECTION / SHARE, abs=CONNECTION / SHARE)
