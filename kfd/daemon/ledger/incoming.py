"""What this host has received: looks at ``incoming``, the transfers that ended here, and at
``incoming_path``, the newest version of each file.

They run in the caller's thread, on its own connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.ledger import bulk


@dataclass(frozen=True, slots=True)
class Published:
    """The newest version of a path that this host has published."""

    generation: int
    name: bytes
    device: int
    inode: int
    size: int
    mtime_ns: int


def closed(
    reader: Connection, route: str, topic_id: str, partition: int, tids: Sequence[bytes]
) -> set[bytes]:
    """Those of ``tids`` that have ended here in this partition, however they ended."""
    rows = bulk.select(
        reader,
        "SELECT tid FROM incoming WHERE route = ? AND topic_id = ? AND partition = ?"
        " AND tid IN {rows}",
        (route, topic_id, partition),
        tids,
    )
    return {tid for (tid,) in rows}


def closed_among(
    reader: Connection, route: str, transfers: Iterable[tuple[str, int, bytes]]
) -> set[tuple[str, int, bytes]]:
    """Those of the transfers (topic id, partition, tid) that have ended here."""
    return {
        (topic_id, partition, tid)
        for (topic_id, partition), tids in by_partition(transfers).items()
        for tid in closed(reader, route, topic_id, partition, tids)
    }


def by_partition(
    transfers: Iterable[tuple[str, int, bytes]],
) -> dict[tuple[str, int], list[bytes]]:
    """Transfers (topic id, partition, tid), grouped: tids by topic id and partition."""
    groups: dict[tuple[str, int], list[bytes]] = {}
    for topic_id, partition, tid in transfers:
        groups.setdefault((topic_id, partition), []).append(tid)
    return groups


def newest(
    reader: Connection, route: str, topic_id: str, origin: str, paths: Sequence[bytes]
) -> dict[bytes, Published]:
    """The newest published versions of paths of an origin, of those that have one."""
    rows = bulk.select(
        reader,
        "SELECT path, generation, name, device, inode, size, mtime_ns FROM incoming_path"
        " WHERE route = ? AND topic_id = ? AND origin = ? AND path IN {rows}",
        (route, topic_id, origin),
        paths,
    )
    return {path: Published(*rest) for path, *rest in rows}
