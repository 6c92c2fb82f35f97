"""Ledgers of earlier versions: brought up to date with all that is in them, and a copy kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from kfd.daemon.ledger import resending
from kfd.daemon.ledger.resending import Gap
from kfd.daemon.ledger.schema import MIGRATIONS
from tests.parts import running_ledger

IDENTITY = {"origin": b"lab", "instance": bytes(range(16))}


def make(path: Path, number: int) -> None:
    """A ledger as that version of the schema has it, with a file that is in Kafka."""
    with closing(sqlite3.connect(path / "ledger.db")) as db:
        for step in MIGRATIONS[:number]:
            db.executescript(step)
        db.executemany("INSERT INTO identity VALUES (?, ?)", IDENTITY.items())
        db.execute(
            "INSERT INTO outgoing (tid, route, topic, path, source, device, inode, size, mtime_ns,"
            " mode, generation, meta, lane, state, topic_id, partition, first_offset, queued_at)"
            " VALUES (x'01', 'scope3', 't', x'61', x'62', 0, 0, 3, 0, 0, 7, '{}', 0, 'in_kafka',"
            " 'id-1', 0, 5, 0)"
        )
        db.execute(f"PRAGMA user_version = {number}")
        db.commit()


def test_ledger_of_version_2_is_brought_up_to_date(tmp_path: Path) -> None:
    make(tmp_path, 2)
    with running_ledger(tmp_path, default="another") as ledger:
        assert (ledger.origin, ledger.instance) == ("lab", IDENTITY["instance"])
        reader = ledger.reader()
        assert reader.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert reader.execute("SELECT path, generation FROM outgoing").fetchall() == [(b"a", 7)]
        assert resending.dropped(reader, Gap("t", "id-1", 0, 6), -1, 9) == [(1, 5)]
    with closing(sqlite3.connect(tmp_path / "ledger.v2")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (2,)
        assert copy.execute("SELECT count(*) FROM outgoing").fetchone() == (1,)
