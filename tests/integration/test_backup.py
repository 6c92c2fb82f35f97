"""A backup of the ledger that was made while files moved: kfd goes on with it and loses nothing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.conftest import ONE_READER, MakeHost

pytestmark = pytest.mark.broker


def test_kfd_goes_on_with_a_backup(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    for number in range(200):
        host.put(f"before/{number}", b"b" * number)
    copy = tmp_path / "copy.db"
    done = host.ctl("backup", copy)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(copy)) as made:
        assert made.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for number in range(50):
        host.put(f"after/{number}", b"a" * number)
    host.receives_all()
    host.put("before/7", b"newer than the backup")
    host.receives_all()
    assert host.terminate() == 0
    for one in host.state.glob("ledger.db*"):
        one.unlink()
    shutil.copy(copy, host.state / "ledger.db")
    host.put("while/down", b"new")
    host.start()
    host.put("before/8", b"newer than the restored ledger")
    host.receives_all()
    host.clean()
