"""Which versions of which files were queued, sent or skipped: operations on ``known_file``.

Functions that take ``writer`` run in the ledger's writer thread inside its transaction; those that
take ``reader`` run in the caller's thread on its own connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import bulk


@dataclass(frozen=True, slots=True)
class Known:
    """The version of a file that was queued, sent or skipped last."""

    inode: int
    size: int
    mtime_ns: int
    tid: bytes | None

    def is_of(self, version: FileVersion) -> bool:
        """Whether that was this version.

        The device isn't compared: its number may change with a reboot or a remount, and then
        everything would be sent again. Nor the inode, where it meant nothing then or now.
        """
        return (self.size, self.mtime_ns) == (version.size, version.mtime_ns) and (
            self.inode == version.inode or 0 in (self.inode, version.inode)
        )


def look_up(
    connection: Connection, route: str, topic: str, paths: Sequence[bytes]
) -> dict[bytes, Known]:
    """What is known of these paths."""
    rows = bulk.select(
        connection,
        "SELECT path, inode, size, mtime_ns, tid FROM known_file"
        " WHERE route = ? AND topic = ? AND path IN {rows}",
        (route, topic),
        paths,
    )
    return {path: Known(*values) for path, *values in rows}


def unknown(
    reader: Connection, route: str, topic: str, versions: Sequence[FileVersion]
) -> list[FileVersion]:
    """Those of ``versions`` that were neither queued, sent nor skipped as they are."""
    known = look_up(reader, route, topic, [version.path for version in versions])
    return [
        version
        for version in versions
        if (last := known.get(version.path)) is None or not last.is_of(version)
    ]


def earlier(reader: Connection, route: str, topic: str, version: FileVersion) -> bytes | None:
    """The tid under which this very version was queued or sent, if it was."""
    last = look_up(reader, route, topic, [version.path]).get(version.path)
    return last.tid if last is not None and last.is_of(version) else None


def know(
    writer: Connection,
    route: str,
    topic: str,
    files: Sequence[tuple[FileVersion, bytes | None]],
) -> None:
    """Remember versions, each with the tid under which it is sent; None: it is skipped."""
    bulk.execute(
        writer,
        "INSERT OR REPLACE INTO known_file VALUES {rows}",
        [
            (
                *(route, topic, version.path, version.inode, version.size, version.mtime_ns),
                *(version.source, tid),
            )
            for version, tid in files
        ],
    )


def destinations(reader: Connection) -> list[tuple[str, str]]:
    """(route, topic) of all known files."""
    return reader.execute("SELECT DISTINCT route, topic FROM known_file").fetchall()


def after(
    reader: Connection, route: str, topic: str, path: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    """Path and source of known files, in order of their paths, from the one after ``path`` on."""
    return reader.execute(
        "SELECT path, source FROM known_file WHERE route = ? AND topic = ? AND path > ?"
        " ORDER BY path LIMIT ?",
        (route, topic, path, limit),
    ).fetchall()


def forget(writer: Connection, route: str, topic: str, paths: Iterable[bytes]) -> None:
    """Forget known files that are no longer there."""
    writer.executemany(
        "DELETE FROM known_file WHERE route = ? AND topic = ? AND path = ?",
        [(route, topic, path) for path in paths],
    )
