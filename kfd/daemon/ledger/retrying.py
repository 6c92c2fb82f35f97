"""Transfers that are sent again because somebody asks for it: what failed, or was cancelled.

They get a new tid, and keep their generation: it is no newer version. Functions that take
``writer`` run in the ledger's writer thread inside its transaction; those that take ``reader`` run
in the caller's thread on its own connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import confirmations, endings, known, outgoing, tally
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.ledger.tally import Ended

RETRIED = "sent again by hand"
_RETRIABLE = ("failed", "cancelled")


def failed(
    reader: Connection, route: str | None, uid: int | None, after: int, limit: int
) -> list[Outgoing]:
    """What has failed, of a route and of a user if these are given, from the one after id
    ``after`` on."""
    rows = reader.execute(
        "SELECT id FROM outgoing INDEXED BY outgoing_given_up"
        " WHERE state IN ('failed', 'cancelled') AND state = 'failed' AND id > ?"
        " AND (? IS NULL OR route = ?) AND (? IS NULL OR uid = ?) ORDER BY id LIMIT ?",
        (after, route, route, uid, uid, limit),
    )
    return outgoing.by_id(reader, [number for (number,) in rows])


def obstacles(reader: Connection, rows: Sequence[Outgoing]) -> dict[int, str]:
    """Why those can't be sent again by what the ledger knows of them, for which that is so."""
    return {row.id: reason for row in rows if (reason := _obstacle(reader, row))}


def retry(writer: Connection, rows: Sequence[Outgoing], chunk_size: int) -> dict[int, str]:
    """Queue these again; id → why not, for those that can't be.

    ``chunk_size`` tells small from large where it was not settled before. Killed before this is
    durable: nothing is queued.
    """
    refused: dict[int, str] = {}
    for row in rows:
        reason = _obstacle(writer, row)
        if reason:
            refused[row.id] = reason
        else:
            _retry(writer, row, chunk_size)
    return refused


def _obstacle(connection: Connection, row: Outgoing) -> str:
    """Why a transfer can't be sent again; empty if it can."""
    state, successor = connection.execute(
        "SELECT state, successor FROM outgoing WHERE id = ?", (row.id,)
    ).fetchone() or ("", None)
    if state not in _RETRIABLE:
        return f"it is {state.replace('_', '-')}" if state else "it is forgotten"
    if successor is not None:
        return f"{successor.hex()[-8:]} took its place"
    (newest,) = connection.execute(
        "SELECT generation FROM outgoing_path WHERE topic = ? AND path = ?", (row.topic, row.path)
    ).fetchone()
    return "a newer version of the file was sent since" if newest > row.generation else ""


def _retry(writer: Connection, row: Outgoing, chunk_size: int) -> None:
    (state,) = writer.execute("SELECT state FROM outgoing WHERE id = ?", (row.id,)).fetchone()
    row.chunk_size = row.chunk_size or chunk_size
    tid = endings.start_over(writer, row, RETRIED, state=state)
    left = Ended(row.route, row.topic, state, row.size, row.path)
    tally.uncount(writer, "upload", [left])
    confirmations.drop(writer, [row.tid])
    if row.spool is None:  # it may have been forgotten, and a scan must not send it besides
        version = FileVersion(
            *(row.path, row.source, row.device, row.inode, row.size, row.mtime_ns, row.mode, 0)
        )
        known.know(writer, row.route, row.topic, [(version, tid)])
