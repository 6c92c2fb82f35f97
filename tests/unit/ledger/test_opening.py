"""Opening a ledger: its identity, its owner, its schema, and files that are none."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, database
from kfd.daemon.ledger.schema import MIGRATIONS
from kfd.errors import ConfigError, ExitCode, KfdError
from tests.parts import fill, in_child, running_ledger
from tests.unit.ledger.keys import add, keys


def test_identity_is_kept(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        first = (ledger.origin, ledger.instance)
    with running_ledger(tmp_path, default="renamed-host") as ledger:
        assert (ledger.origin, ledger.instance) == first
    assert first[0] == "scope3"
    assert len(first[1]) == 16


def test_configured_origin_must_be_the_ledgers(tmp_path: Path) -> None:
    with running_ledger(tmp_path):
        pass
    with pytest.raises(ConfigError, match="scope3") as caught:
        Ledger(tmp_path / "ledger.db", Health(), origin="scope4", default="x")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert "origin: scope3" in caught.value.fix


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with running_ledger(tmp_path / "state") as ledger:
            ledger.write(add("a"))
            modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    finally:
        os.umask(old)
    assert modes == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_one_daemon_has_it(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:

        def start_another() -> None:
            with pytest.raises(ConfigError, match="another kfd"):
                Ledger(tmp_path / "ledger.db", Health(), origin=None, default="x")

        assert in_child(start_another) == 0
        ledger.write(add("still"))
    with running_ledger(tmp_path) as ledger:
        assert keys(ledger) == {"still"}


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        ledger.write(lambda db: db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}"))
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(ConfigError, match=f"schema {len(MIGRATIONS) + 1}") as caught:
        Ledger(tmp_path / "ledger.db", Health(), origin=None, default="x")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert (tmp_path / "ledger.db").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(5000)]
)
def test_corrupt_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a ledger") as caught:
        Ledger(path, Health(), origin=None, default="x")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert str(path) in str(caught.value)
    assert caught.value.fix
    assert path.read_bytes() == content


def test_path_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "ledger.db", tmp_path):
        with pytest.raises(KfdError, match="cannot be used") as caught:
            Ledger(path, Health(), origin=None, default="x")
        assert caught.value.exit_code == ExitCode.PERMISSION


def test_full_disk_at_the_first_start_is_said_wherever_it_strikes(small_disk: Path) -> None:
    """Never a traceback, and never the advice to throw a good ledger away."""
    outcomes = set()
    for pages in range(0, 96, 3):
        state = small_disk / str(pages)
        filler = fill(small_disk, leave=4096 * pages)
        outcomes.add(fix_of_start(state / "ledger.db"))
        filler.unlink()
        shutil.rmtree(state, ignore_errors=True)
    assert "" in outcomes
    assert len(outcomes) > 1
    assert not [fix for fix in outcomes if "move it away" in fix]


def fix_of_start(path: Path) -> str:
    """What is advised where the ledger can't be opened; nothing where it can."""
    try:
        Ledger(path, Health(), origin=None, default="x")._writer.close()
    except KfdError as error:
        return error.fix
    return ""


def test_migration_keeps_a_copy_and_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_ledger(tmp_path) as ledger:
        ledger.write(add("old"))
    steps = ("CREATE TABLE second (x);", "CREATE TABLE third (x); INSERT INTO broken VALUES (1);")
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, *steps))

    def start() -> None:
        with pytest.raises(KfdError):
            Ledger(tmp_path / "ledger.db", Health(), origin=None, default="x")

    assert in_child(start) == 0  # a process that ended lets go of the file
    before = len(MIGRATIONS)
    copy = sqlite3.connect(tmp_path / f"ledger.v{before}")
    assert copy.execute("PRAGMA user_version").fetchone() == (before,)
    assert copy.execute("SELECT key FROM identity WHERE key = 'old'").fetchone() == ("old",)
    copy.close()
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, steps[0], "CREATE TABLE third (x);"))
    with running_ledger(tmp_path) as ledger:
        tables = ledger.reader().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {"second", "third", "outgoing"} <= {name for (name,) in tables}
        assert keys(ledger) == {"old"}
