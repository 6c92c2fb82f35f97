"""The stage that tells a sink, whatever the sink does: it never ends by itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from kfd.daemon.catalogue import cataloguer
from kfd.daemon.catalogue.cataloguer import Cataloguer
from kfd.daemon.catalogue.rows import Rows
from kfd.daemon.catalogue.sink import Refused, Row, Sink, SinkError
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, catalogue, cataloguing
from kfd.daemon.ledger.cataloguing import Added
from tests.support import eventually


class Collecting:
    """A sink that keeps what it is given."""

    batch = 100

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def open(self) -> None:
        """Nothing to look at."""

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        self.rows += rows
        return []

    def close(self) -> None:
        """Nothing to let go of."""


class Broken(Collecting):
    """One with a bug, whenever it is made anew, for a while."""

    failures = 2

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        if self.failures:
            self.failures -= 1
            raise KeyError(0)
        return super().write(rows)


class Shut(Collecting):
    """One that can't be opened, for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = threading.Event()

    def open(self) -> None:
        if not self.mended.is_set():
            raise SinkError("no such password", fix="correct it")


class Late(Collecting):
    """One that answers only after it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.goes_on = threading.Event()

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        self.asked.set()
        assert self.goes_on.wait(60)
        return super().write(rows)


def stage_of(ledger: Ledger, sink: Sink, health: Health | None = None) -> Cataloguer:
    rows = Rows("scope3", b"/spool")
    return Cataloguer("lab", lambda _: sink, rows, ledger, health or Health())


@contextmanager
def telling(stage: Cataloguer) -> Iterator[None]:
    """The stage while it runs; it lives until it is stopped."""
    deaths: list[BaseException] = []
    stage.start(lambda _, error: deaths.append(error))
    try:
        yield
    finally:
        stage.stop()
        assert stage.join(60)
    assert deaths == []


@pytest.fixture
def owing(ledger: Ledger) -> Ledger:
    """A ledger with three files that ``lab`` is to be told of."""
    files = [Added(bytes([n]) * 16, b"a", b"/a", 1, 1, bytes(32), "{}", 0) for n in range(3)]
    ledger.write(lambda db: catalogue.configure(db, {"lab": "false"}))
    ledger.write(lambda db: cataloguing.add(db, files, ["lab"]))
    return ledger


def waiting(ledger: Ledger) -> int:
    return catalogue.standings(ledger.reader())[0].waiting


def test_a_bug_in_a_sink_is_told_and_tried_again(
    owing: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cataloguer, "FIRST_PAUSE", 0.01)
    sink, health = Broken(), Health()
    with caplog.at_level(logging.INFO, "kfd"), telling(stage_of(owing, sink, health)):
        eventually(lambda: waiting(owing) == 0)
        eventually(lambda: not health.problems())
    assert len(sink.rows) == 3
    assert caplog.text.count("recovered from") == 1  # not by being opened
    assert "catalogue-lab: it can't be written: KeyError: 0" in caplog.text
    assert "this is a bug in kfd, at test_cataloguer.py:" in caplog.text


def test_what_is_wrong_is_told_before_there_is_a_row(ledger: Ledger) -> None:
    ledger.write(lambda db: catalogue.configure(db, {"lab": "false"}))
    sink, health = Shut(), Health()
    with telling(stage := stage_of(ledger, sink, health)):
        (problem,) = eventually(health.problems)
        assert (problem.text, problem.fix) == (
            "it can't be written: no such password",
            "correct it",
        )
        sink.mended.set()
        stage.nudge()
        eventually(lambda: not health.problems())


def test_one_that_ends_late_tells_nothing_for_its_successor(owing: Ledger) -> None:
    """What it wrote went into the database of before."""
    before, after = Late(), Collecting()
    with telling(late := stage_of(owing, before)):
        assert before.asked.wait(60)
        late.stop()
        before.goes_on.set()
    with telling(stage_of(owing, after)):
        eventually(lambda: waiting(owing) == 0)
    assert len(before.rows) == len(after.rows) == 3
