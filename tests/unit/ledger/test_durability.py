"""What was written is there after kill -9; a full disk changes nothing, and is waited out."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, LedgerError, accepting, database
from tests.parts import fill, in_child, running_ledger, version
from tests.support import eventually
from tests.unit.ledger.keys import add, keys
from tests.unit.ledger.outgoing_files import offer


def test_what_write_returned_survives_kill_9(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def write_for_ever() -> None:
        ledger = Ledger(tmp_path / "ledger.db", Health(), origin=None, default="scope3")
        ledger.start(lambda _stage, _error: os._exit(98))
        for n in range(1_000_000):
            ledger.write(add(str(n)))
            os.write(writing, b"%d\n" % n)

    child = os.fork()
    if child == 0:
        try:
            write_for_ever()
        finally:
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading) as reports:
        told = [reports.readline() for _ in range(20)]
        os.kill(child, signal.SIGKILL)
        told += reports.readlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with running_ledger(tmp_path) as ledger:
        assert keys(ledger) >= {line.strip() for line in told}


def test_transaction_interrupted_by_kill_9_left_nothing(tmp_path: Path) -> None:
    def killed_midway(writer: sqlite3.Connection) -> None:
        accepting.accept(writer, offer(version()))
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        ledger = Ledger(tmp_path / "ledger.db", Health(), origin=None, default="scope3")
        ledger.start(lambda _stage, _error: os._exit(98))
        ledger.write(add("before"))
        ledger.write(killed_midway)

    assert in_child(work) == -signal.SIGKILL
    with running_ledger(tmp_path) as ledger:
        assert keys(ledger) == {"before"}
        for table in ("outgoing", "outgoing_path", "known_file", "tally"):
            assert ledger.reader().execute(f"SELECT * FROM {table}").fetchall() == []


def test_full_disk_is_an_error_and_changes_nothing(small_disk: Path) -> None:
    with running_ledger(small_disk) as ledger:
        ledger.write(add("before"))
        filler = fill(small_disk)
        with pytest.raises(LedgerError, match="ledger cannot be written") as caught:
            ledger.write(add("large", bytes(200_000)))
        assert caught.value.retry
        assert "free space" in caught.value.fix
        assert keys(ledger) == {"before"}
        filler.unlink()
        ledger.write(add("after"))
        assert keys(ledger) == {"before", "after"}


def test_patient_write_waits_for_space(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "RETRY_SECONDS", 0.05)
    health = Health()
    with running_ledger(small_disk, health) as ledger:
        filler = fill(small_disk)
        done: Future[None] = Future()
        operation = add("large", bytes(200_000))
        thread = threading.Thread(target=lambda: done.set_result(ledger.write_patiently(operation)))
        thread.start()
        (problem,) = eventually(health.problems)
        assert problem.scope == "ledger"
        assert not done.done()
        filler.unlink()
        done.result(30)
        thread.join()
        assert health.problems() == []
        assert keys(ledger) == {"large"}


def test_patient_write_ends_when_the_ledger_is_stopped(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RETRY_SECONDS", 0.05)
    health = Health()
    ended: list[BaseException] = []
    with running_ledger(small_disk, health) as ledger:
        fill(small_disk)

        def patient() -> None:
            try:
                ledger.write_patiently(add("large", bytes(200_000)))
            except LedgerError as error:
                ended.append(error)

        thread = threading.Thread(target=patient, daemon=True)
        thread.start()
        eventually(health.problems)
        ledger.stop()
        thread.join(30)
    assert len(ended) == 1
