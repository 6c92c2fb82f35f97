"""All that is known of one transfer, for people who ask about it.

Everything here reads, in the caller's thread, on its own connection.
"""

from __future__ import annotations

import json
from sqlite3 import Connection
from typing import Any

from kfd.control import Transfer
from kfd.control.transfers import Details, Direction
from kfd.paths import escape
from kfd.transfer import OpenTransfer
from kfd.users import name_of

_UPLOAD = (
    "SELECT generation, mtime_ns, mode, meta, digest, source, uid, topic_id, partition,"
    " first_offset, chunk_size, begun_at, acked_at, resend_at, tries, receivers,"
    " chunk_size IS NOT NULL AND acked >= max(1, (size + chunk_size - 1) / chunk_size) AS whole,"
    " state, ended_at, (SELECT group_concat(name, ' ') FROM confirmation c"
    "  WHERE c.tid = o.tid AND NOT c.early) AS confirmed,"
    " (SELECT p.tid FROM outgoing p INDEXED BY outgoing_successor"
    "  WHERE p.successor = o.tid AND p.successor IS NOT NULL) AS predecessor"
    " FROM outgoing o WHERE tid = ?"
)
_DOWNLOAD = (
    "SELECT generation, mtime_ns, meta, digest, name, topic_id, partition, first_offset"
    " FROM incoming WHERE tid = ? AND route = ? ORDER BY id DESC LIMIT 1"
)


def of(reader: Connection, transfer: Transfer) -> Details | None:
    """What is known besides; None where the ledger has no more than the transfer itself."""
    tid = bytes.fromhex(transfer.tid)
    upload = transfer.direction is Direction.UPLOAD
    cursor = (
        reader.execute(_UPLOAD, (tid,))
        if upload
        else reader.execute(_DOWNLOAD, (tid, transfer.route))
    )
    found = cursor.fetchone()
    if found is None:
        return None
    row = dict(zip((column[0] for column in cursor.description), found, strict=True))
    return _details(row)


def of_begin(one: OpenTransfer) -> Details:
    """What is known of one that is being put together, and that the ledger doesn't know yet."""
    begin = one.begin
    return _details(
        {
            "generation": begin.generation,
            "mtime_ns": begin.mtime_ns,
            "mode": begin.mode,
            "meta": json.dumps(dict(begin.meta)),
            "digest": None,
            "topic_id": None,
            "partition": None,
            "first_offset": one.first_offset,
            "chunk_size": begin.chunk_size,
        }
    )


def _details(row: dict[str, Any]) -> Details:
    """``row`` has the columns of a direction; what the other one has is null."""
    in_kafka = row.get("whole") and (
        row["state"] == "in_kafka" or row["ended_at"] not in (None, row["acked_at"])
    )
    uid = row.get("uid")
    return Details(
        generation=row["generation"],
        mtime=row["mtime_ns"] / 1e9,
        mode=row.get("mode"),
        meta=json.loads(row["meta"]),
        digest=_hex(row["digest"]),
        source=_shown(row.get("source")),
        name=_shown(row.get("name")),
        user=None if uid is None else name_of(uid),
        topic_id=row["topic_id"],
        partition=row["partition"],
        first_offset=row["first_offset"],
        chunk_size=row.get("chunk_size"),
        begun_at=row.get("begun_at"),
        in_kafka_at=row["acked_at"] if in_kafka else None,
        resend_at=row.get("resend_at"),
        tries=row.get("tries", 0),
        receivers=(row.get("receivers") or row.get("confirmed") or "").split(),
        predecessor=_hex(row.get("predecessor")),
    )


def _hex(value: bytes | None) -> str | None:
    return value.hex() if value is not None else None


def _shown(path: bytes | None) -> str | None:
    return escape(path) if path else None
