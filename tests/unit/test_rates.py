"""Bytes a second, as the status shows them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kfd.daemon import rates
from kfd.daemon.rates import WINDOW_SECONDS, Rates


def test_rate_is_the_mean_of_the_last_full_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    seen = Rates()
    for second in range(20):
        clock[0] = 100.5 + second
        seen.add("lab", "t", 1000)
    clock[0] = 120.0
    assert seen.rate("lab", "t") == 1000
    assert seen.rate("lab", "other") == seen.rate("x", "t") == 0
    clock[0] = 122.9
    assert seen.rate("lab", "t") == 1000 * (WINDOW_SECONDS - 2) / WINDOW_SECONDS
    clock[0] = 200
    assert seen.rate("lab", "t") == 0
    assert len(seen._buckets["lab", "t"]) <= WINDOW_SECONDS + 1
