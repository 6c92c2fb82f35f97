"""Backups of the ledger: whole, of one moment, and nothing is left behind."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kfd.daemon import backup
from kfd.daemon.backup import Backups
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger
from kfd.errors import KfdError, UsageError


@pytest.fixture
def backups(ledger: Ledger, tmp_path: Path) -> Backups:
    return Backups(ledger, tmp_path / "state")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "copy.db", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    yield descriptor
    os.close(descriptor)


def pause(ledger: Ledger, name: str) -> None:
    """Any change that is durable when this returns."""
    ledger.write(lambda db: db.execute("INSERT INTO paused_route VALUES (?, 1.0)", (name,)))


def names(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {name for (name,) in copy.execute("SELECT name FROM paused_route")}


def test_it_has_all_that_was_written_before(
    ledger: Ledger, backups: Backups, target: int, tmp_path: Path
) -> None:
    """Others write meanwhile, and are not held up for good."""
    before = {f"before-{number}" for number in range(50)}
    for name in before:
        pause(ledger, name)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            pause(ledger, f"meanwhile-{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        size = backups.make(target, lambda: False)
    finally:
        done.set()
        writer.join()
    assert (tmp_path / "copy.db").stat().st_size == size
    assert before <= names(tmp_path / "copy.db")
    assert not list((tmp_path / "state").glob("ledger.backup*"))


def test_it_is_the_same_ledger(
    ledger: Ledger, backups: Backups, target: int, tmp_path: Path
) -> None:
    backups.make(target, lambda: False)
    restored = tmp_path / "restored"
    restored.mkdir()
    os.rename(tmp_path / "copy.db", restored / "ledger.db")
    other = Ledger(restored / "ledger.db", Health(), origin=None, default="other")
    deaths: list[BaseException] = []
    other.start(lambda _, error: deaths.append(error))
    assert (other.origin, other.instance) == (ledger.origin, ledger.instance)
    pause(other, "it can be written")
    other.stop()
    assert other.join(10)
    assert not deaths


@pytest.mark.parametrize("kind", ["read-only", "not empty", "appended to", "a pipe"])
def test_what_is_no_target(kind: str, backups: Backups, tmp_path: Path) -> None:
    path = tmp_path / "target"
    path.write_bytes(b"mine" if kind == "not empty" else b"")
    flags = {"read-only": os.O_RDONLY, "appended to": os.O_WRONLY | os.O_APPEND}
    reading, writing = os.pipe()
    file = os.open(path, flags.get(kind, os.O_WRONLY))
    try:
        with pytest.raises(UsageError, match="empty file"):
            backups.make(writing if kind == "a pipe" else file, lambda: False)
    finally:
        for one in (reading, writing, file):
            os.close(one)
    assert path.read_bytes() == (b"mine" if kind == "not empty" else b"")


def test_given_up_when_nobody_waits(backups: Backups, target: int, tmp_path: Path) -> None:
    with pytest.raises(KfdError, match="nobody waits"):
        backups.make(target, lambda: True)
    assert not list((tmp_path / "state").glob("ledger.backup*"))
    assert backups.make(target, lambda: False) > 0


def test_no_room_for_the_copy(
    backups: Backups, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_LEFT_FREE", 1 << 62)
    with pytest.raises(KfdError, match="no room"):
        backups.make(target, lambda: False)
    assert os.fstat(target).st_size == 0


def test_one_at_a_time(backups: Backups, target: int) -> None:
    refused: list[str] = []

    def gone() -> bool:
        with pytest.raises(KfdError) as second:
            backups.make(target_of_second, lambda: False)
        refused.append(str(second.value))
        return False

    target_of_second = os.memfd_create("second")
    try:
        backups.make(target, gone)
    finally:
        os.close(target_of_second)
    assert set(refused) == {"a backup is being made already"}


def test_what_a_kill_left_is_removed_at_the_start(ledger: Ledger, tmp_path: Path) -> None:
    left = tmp_path / "state" / "ledger.backup"
    left.write_bytes(b"half")
    Backups(ledger, tmp_path / "state")
    assert not left.exists()
