"""What is wrong now: said once, since when, and when it is over."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from kfd.daemon.health import Health


def test_problem_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with caplog.at_level(logging.INFO, "kfd"):
        for _ in range(3):
            health.report("lab", "disk", "full", "free space")
        health.report("lab", "disk", "fuller", "free space")
        assert [one.text for one in health.problems()] == ["fuller"]
        for _ in range(2):
            health.clear("lab", "disk")
    assert caplog.messages == [
        "lab: full (fix: free space)", "lab: fuller (fix: free space)",
        "lab: recovered from: fuller",
    ]  # fmt: skip
    assert health.problems() == []


def test_problem_keeps_its_beginning_and_the_oldest_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health, clock = Health(), iter([1.0, 2.0])
    monkeypatch.setattr("kfd.daemon.health.time", SimpleNamespace(time=lambda: next(clock)))
    health.report("a", "x", "one")
    health.report("b", "x", "other")
    health.report("a", "x", "changed")
    assert [(one.scope, one.text, one.since) for one in health.problems()] == [
        ("a", "changed", 1.0), ("b", "other", 2.0)
    ]  # fmt: skip


def test_what_the_log_says_already_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.note("configuration", "refused", "not reloaded", "mend it", logged=True)
    assert ([one.text for one in health.problems()], caplog.messages) == (["not reloaded"], [])
