"""The checks of kfd's own things: ledger, clock, secrets, socket, watches."""

from __future__ import annotations

import grp
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kfd.config import Config, from_values
from kfd.control.examination import Check, Outcome
from kfd.daemon.doctor import clock
from kfd.daemon.doctor.directories import (
    look_at_download,
    look_at_upload,
    look_at_watches,
)
from kfd.daemon.doctor.state import look_at_receipts, look_at_secrets, look_at_socket
from kfd.daemon.ledger import soundness
from kfd.daemon.ledger.soundness import Acknowledged
from kfd.daemon.publishing.destination import Destination
from kfd.kafka import BrokerAwayError
from tests.support import eventually


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """One of many pages."""
    path = tmp_path / "some.db"
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("CREATE TABLE t (x BLOB)")
    connection.executemany("INSERT INTO t VALUES (?)", [(os.urandom(3000),) for _ in range(3000)])
    connection.execute("CREATE INDEX i ON t (x)")
    connection.commit()
    yield path, connection
    connection.close()


def test_a_sound_ledger(database: tuple[Path, sqlite3.Connection]) -> None:
    assert soundness.damage(database[1], 60.0) == ""


def test_a_damaged_ledger(database: tuple[Path, sqlite3.Connection]) -> None:
    path, connection = database
    connection.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 100_000)
    again = sqlite3.connect(path, check_same_thread=False)
    try:
        assert soundness.damage(again, 60.0)
    finally:
        again.close()


def test_a_ledger_too_large_to_be_looked_through(
    database: tuple[Path, sqlite3.Connection],
) -> None:
    # an alarm that comes before the check has begun is no alarm
    eventually(lambda: soundness.damage(database[1], 0.02) is None, 60)
    assert database[1].execute("SELECT count(*) FROM t").fetchone() == (3000,)


def of_clock(
    monkeypatch: pytest.MonkeyPatch, last: Acknowledged | None, appended: float | Exception | None
) -> Check:
    monkeypatch.setattr(soundness, "last_acknowledged", lambda _: last)

    def appended_at(*_: object) -> float | None:
        if isinstance(appended, Exception):
            raise appended
        return appended

    ledger: Any = SimpleNamespace(reader=lambda: None)
    cluster: Any = SimpleNamespace(appended_at=appended_at)
    (check,) = clock.look_at_clock(ledger, cluster)
    return check


@pytest.mark.parametrize(
    ("at", "outcome", "part"),
    [
        (1000.4, Outcome.OK, "within 1 s"),
        (1030.0, Outcome.OK, "within 30 s"),
        (1200.0, Outcome.WARN, "ahead of the brokers'"),
        (100.0, Outcome.WARN, "behind the brokers'"),
    ],
)
def test_clocks(monkeypatch: pytest.MonkeyPatch, at: float, outcome: Outcome, part: str) -> None:
    check = of_clock(monkeypatch, Acknowledged("t", "id", 0, 5, at), 1000.0)
    assert (check.outcome, part in check.text) == (outcome, True)


def test_clocks_that_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Acknowledged("t", "id", 0, 5, 1000.0)
    away = BrokerAwayError("gone", fix="x")
    for known, appended, part in (
        (None, None, "no file that was sent lately"),
        (last, None, "no file that was sent lately"),
        (last, away, "the brokers don't answer: gone"),
    ):
        check = of_clock(monkeypatch, known, appended)
        assert (check.outcome, part in check.text) == (Outcome.SKIPPED, True)


def config(**kafka: Any) -> Config:
    return from_values({"kafka": {"bootstrap.servers": "b", **kafka}})


def test_secrets_that_everybody_may_read(tmp_path: Path) -> None:
    secret, file = tmp_path / "password", tmp_path / "kfd.yaml"
    for path in (secret, file):
        path.write_text("x")
        path.chmod(0o644)
    by_file = config(**{"sasl.password": {"file": str(secret)}})
    (check,) = look_at_secrets(by_file, file)
    assert (check.outcome, str(secret) in check.text) == (Outcome.WARN, True)
    (check,) = look_at_secrets(config(**{"sasl.password": "inline"}), file)
    assert str(file) in check.text
    secret.chmod(0o640)
    (check,) = look_at_secrets(by_file, file)
    assert (check.outcome, check.text) == (Outcome.OK, "1 file, not readable by everybody")
    assert list(look_at_secrets(config(), file)) == []


def test_the_socket_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "kfd.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        path.chmod(0o660)
        own = grp.getgrgid(path.stat().st_gid).gr_name
        assert [check.outcome for check in look_at_socket(path, own)] == [Outcome.OK]
        path.chmod(0o600)
        assert [check.outcome for check in look_at_socket(path, own)] == [Outcome.WARN]
        (check,) = look_at_socket(path, "no-such-group")
        assert "groupadd no-such-group" in check.fix


def upload(directory: Path, **more: Any) -> Any:
    route = {"directory": str(directory), "topic": "t", **more}
    return from_values({"kafka": {"bootstrap.servers": "b"}, "uploads": {"u": route}})


def test_upload_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for directory, outcome, part in (
        (tmp_path, Outcome.OK, "is watched"),
        (tmp_path / "none", Outcome.FAIL, "is missing"),
        (tmp_path / "file", Outcome.FAIL, "is not a directory"),
    ):
        (check,) = look_at_upload(upload(directory).uploads["u"])
        assert (check.outcome, part in check.text) == (outcome, True)
    (check,) = look_at_upload(upload(tmp_path, watch="poll").uploads["u"])
    assert "polled every 10 s" in check.text


@pytest.mark.parametrize(
    ("min_free", "name", "outcome"),
    [("0%", "downloads.d", Outcome.OK), ("8000PiB", "downloads.d.space", Outcome.FAIL)],
)
def test_room_for_downloads(tmp_path: Path, min_free: str, name: str, outcome: Outcome) -> None:
    """Too little of it has a name of its own: only that tells of files that wait for space."""
    route = {"directory": str(tmp_path), "topic": "t", "min_free": min_free}
    made = from_values({"kafka": {"bootstrap.servers": "b"}, "downloads": {"d": route}})
    with closing(Destination(tmp_path, mode=0o750, group=-1, owner="o")) as destination:
        room = list(look_at_download(made.downloads["d"], destination))[-1]
    assert (room.name, room.outcome) == (name, outcome)


def test_what_a_receipt_is_worth_is_said_where_it_counts(tmp_path: Path) -> None:
    assert list(look_at_receipts(upload(tmp_path))) == []
    (check,) = look_at_receipts(upload(tmp_path, then="delete"))
    assert check.outcome is Outcome.WARN
    assert "t.receipts" in check.fix


def test_watches() -> None:
    (check,) = look_at_watches()
    assert " watches used by kfd" in check.text
