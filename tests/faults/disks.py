"""What tests of disks look at: what a host says of its disk, and whether its ledger is sound."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

from tests.faults.writer import CHUNKED
from tests.integration.conftest import ONE_READER
from tests.integration.host import Host
from tests.support import eventually

ONE = {**CHUNKED, "pools": ONE_READER}


def said(host: Host, *words: str) -> dict[str, Any]:
    """Wait until its status tells of a problem in which one of these words is."""

    def find() -> dict[str, Any] | None:
        problems: list[dict[str, Any]] = host.status()["problems"]
        return next((p for p in problems if any(word in p["text"] for word in words)), None)

    problem = eventually(find, 60, every=0.1)
    assert problem is not None
    assert problem["fix"]
    assert host.ctl("status", "--check").returncode == 1
    return problem


def reason(problem: dict[str, Any]) -> str:
    """What a problem says; of paths the last name, for the rest is another one in each run."""
    return re.sub(r"/\S*/", "", str(problem["text"]))


def well_again(host: Host) -> None:
    """Wait until its status tells of no problem."""
    eventually(lambda: host.status()["state"] == "running")


def sound(host: Host) -> None:
    """Fail unless its ledger is what SQLite calls sound."""
    ledger = f"file:{host.state / 'ledger.db'}?mode=ro"
    with closing(sqlite3.connect(ledger, uri=True, timeout=10)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
