"""What feeds systemd's watchdog: stages that beat, or that rightly wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kfd.daemon.health import Health
from kfd.daemon.stage import Stage
from kfd.daemon.watchdog import all_well, patience
from tests.support import eventually


class Worker(Stage):
    """Beats, until it is told to hang."""

    def __init__(self) -> None:
        super().__init__("worker")
        self.hangs = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            if not self.hangs.is_set():
                self.beat()


@contextmanager
def at_work() -> Iterator[Worker]:
    worker = Worker()
    worker.start(lambda stage, error: None)
    try:
        yield worker
    finally:
        worker.stop()
        assert worker.join(30)


@pytest.mark.parametrize(
    ("watchdog", "seconds"),
    [(None, 300.0), (60.0, 300.0), (20.0, 100.0), (2.0, 30.0)],
)
def test_patience_goes_by_the_units_watchdog(watchdog: float | None, seconds: float) -> None:
    assert patience(watchdog) == seconds


def test_stage_that_hangs_is_noticed_and_named(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with at_work() as worker:
        assert all_well([worker], health, 1.0)
        worker.hangs.set()
        eventually(lambda: not all_well([worker], health, 1.0))
        assert "no sign of life from: worker" in caplog.messages
        worker.hangs.clear()
        eventually(lambda: all_well([worker], health, 1.0))


@pytest.mark.parametrize("key", ["disk", "write", "endings"])
def test_stage_that_waits_for_a_disk_in_trouble_does_not_hang(key: str) -> None:
    health = Health()
    with at_work() as worker:
        worker.hangs.set()
        eventually(lambda: not all_well([worker], health, 1.0))
        health.report("lab", key, "the disk is full")
        assert all_well([worker], health, 1.0)
        health.clear("lab", key)
        assert not all_well([worker], health, 1.0)


def test_stage_that_has_ended_is_no_matter_of_the_watchdog() -> None:
    with at_work() as worker:
        worker.hangs.set()
        eventually(lambda: not all_well([worker], Health(), 1.0))
    assert all_well([worker], Health(), 1.0)
