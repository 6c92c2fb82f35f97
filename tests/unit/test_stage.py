"""A stage: a named thread that ends when it is asked to, and tells when it ends otherwise."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from kfd.daemon.stage import Stage
from tests.parts import running
from tests.support import eventually


def _as_the_kernel_names_them() -> list[str]:
    return [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


class Once(Stage):
    """Runs until it is stopped, or dies of ``error``."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__("once")
        self.error = error

    def run(self) -> None:
        if self.error is not None:
            raise self.error
        self.stopping.wait(30)


def test_stage_is_a_named_thread_that_ends_when_asked() -> None:
    stage = Once()
    assert stage.join(0)  # not started: nothing to wait for
    with running(stage):
        assert stage.alive
        assert "once" in {thread.name for thread in threading.enumerate()}
        eventually(lambda: "once" in _as_the_kernel_names_them())
        assert not stage.join(0)
    assert not stage.alive
    stage.stop()


@pytest.mark.parametrize("error", [ValueError("bug"), SystemExit(3), KeyboardInterrupt()])
def test_death_of_a_stage_is_told_with_its_reason(error: BaseException) -> None:
    deaths: list[tuple[Stage, BaseException]] = []
    stage = Once(error)
    stage.start(lambda *death: deaths.append(death))
    assert stage.join(30)
    assert deaths == [(stage, error)]


class Poller(Stage):
    """Its client's callback makes a call that fails, and isn't wrapped in ``raising``."""

    def run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": "127.0.0.1:1",
                "group.id": "group",
                "error_cb": lambda _error: fail(consumer),
                "log_level": 0,
            }
        )
        try:
            while not self.stopping.is_set():
                consumer.poll(0.1)
        finally:
            consumer.close()


def fail(consumer: Consumer) -> None:
    consumer.get_watermark_offsets(TopicPartition("topic", 0), 0.05)


def test_stage_dies_of_an_error_of_kafkas_that_is_no_exception() -> None:
    assert not issubclass(KafkaError, BaseException)
    deaths: list[tuple[Stage, BaseException]] = []
    stage = Poller("poller")
    stage.start(lambda *death: deaths.append(death))
    assert stage.join(30)
    ((dead, error),) = deaths
    assert dead is stage
    assert isinstance(error, RuntimeError)
    assert str(error).startswith("KafkaError: KafkaError{code=_")
