"""The smallest thing that can be written into a ledger, and looked for."""

from __future__ import annotations

import sqlite3

from kfd.daemon.ledger import Ledger, database


def add(key: str, value: bytes = b"") -> database.Operation[None]:
    """An operation that is easily looked for."""

    def operation(writer: sqlite3.Connection) -> None:
        writer.execute("INSERT INTO identity VALUES (?, ?)", (key, value))

    return operation


def keys(ledger: Ledger) -> set[str]:
    rows = ledger.reader().execute("SELECT key FROM identity")
    return {key for (key,) in rows} - {"origin", "instance"}
