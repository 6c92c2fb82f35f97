"""How files come into the ledger: operations that queue transfers.

All run in the ledger's writer thread inside its transaction.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import bulk, known, tally
from kfd.daemon.ledger.known import Known
from kfd.daemon.ledger.outgoing import lane_of
from kfd.daemon.ledger.tally import Ended
from kfd.wire import new_tid, next_generation


@dataclass(frozen=True, slots=True)
class Offer:
    """Files that are to be sent over one route, or to one topic (``route == ""``)."""

    route: str
    topic: str
    versions: Sequence[FileVersion]
    chunk_size: int  # bytes; tells small from large
    meta: Mapping[str, str]
    uid: int | None = None
    again: bool = False  # send even what was sent already
    skip_older_ns: int = 0  # only remember files whose ctime is older than this
    format: str = "kfd"  # of the records


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer for one file: its transfer, or the earlier one of the same version."""

    tid: bytes | None  # None: skipped, it was there before the route
    already: bool


@dataclass(frozen=True, slots=True)
class Queued:
    """A transfer that is to be queued."""

    tid: bytes
    version: FileVersion
    generation: int
    not_before: float = 0.0  # epoch seconds; not 0: the file was changing and has to settle first


def accept(writer: Connection, offer: Offer) -> list[Accepted]:
    """Queue the versions that are new; an older version that still waits gives way to its newer."""
    now = time.time()
    answers: list[Accepted] = []
    for versions in _without_repeats(offer.versions):
        answers += _accept(writer, offer, versions, now)
    return answers


def _without_repeats(versions: Sequence[FileVersion]) -> Iterator[Sequence[FileVersion]]:
    """The versions in pieces, none of which has a path twice."""
    if len({version.path for version in versions}) == len(versions):
        yield versions
    else:
        yield from ([version] for version in versions)


def _accept(
    writer: Connection, offer: Offer, versions: Sequence[FileVersion], now: float
) -> list[Accepted]:
    paths = [version.path for version in versions]
    last = known.look_up(writer, offer.route, offer.topic, paths)
    new = [one for one in versions if offer.again or not _is_known(one, last)]
    wanted = [one for one in new if one.ctime_ns >= offer.skip_older_ns]
    tids = dict(zip((one.path for one in wanted), _new_tids(len(wanted), now), strict=True))
    generations = _next_generations(writer, offer.topic, list(tids), now)
    queue(
        writer,
        offer,
        [Queued(tids[one.path], one, generations[one.path]) for one in wanted],
        now,
    )
    for one in wanted:
        older = last.get(one.path)
        if older is not None and older.tid is not None:
            _give_way(writer, offer, older, one, tids[one.path], now)
    known.know(writer, offer.route, offer.topic, [(one, tids.get(one.path)) for one in new])
    fresh = {one.path for one in new}
    return [_answer(one, one.path in fresh, tids, last) for one in versions]


def _is_known(version: FileVersion, last: Mapping[bytes, Known]) -> bool:
    known_version = last.get(version.path)
    return known_version is not None and known_version.is_of(version)


def _answer(
    version: FileVersion, fresh: bool, tids: Mapping[bytes, bytes], last: Mapping[bytes, Known]
) -> Accepted:
    if not fresh:
        return Accepted(last[version.path].tid, already=True)
    tid = tids.get(version.path)
    return Accepted(tid, already=tid is None)


def _new_tids(count: int, now: float) -> list[bytes]:
    random = os.urandom(10 * count)
    return [new_tid(int(now * 1000), random[at : at + 10]) for at in range(0, len(random), 10)]


def queue(writer: Connection, offer: Offer, files: Sequence[Queued], now: float) -> None:
    """Insert queued transfers."""
    meta = json.dumps(dict(offer.meta))
    bulk.execute(
        writer,
        "INSERT INTO outgoing (tid, route, topic, path, source, device, inode, size, mtime_ns,"
        " mode, generation, meta, uid, lane, state, queued_at, not_before, spool, format)"
        " VALUES {rows}",
        [
            (
                *(one.tid, offer.route, offer.topic, one.version.path),
                *(*_read_from(one.version), one.version.size),
                *(one.version.mtime_ns, one.version.mode, one.generation, meta, offer.uid),
                *(lane_of(one.version, offer.chunk_size), "queued", now, one.not_before),
                os.fsdecode(os.path.basename(one.version.copy)) if one.version.copy else None,
                offer.format,
            )
            for one in files
        ],
    )


def _read_from(version: FileVersion) -> tuple[bytes, int, int]:
    """Path, device and inode of what will be read: the file, or its copy. That is nobody else's,
    so its inode need not be compared."""
    if version.copy:
        return version.copy, 0, 0
    return version.source, version.device, version.inode


def queue_successor(
    writer: Connection,
    offer: Offer,
    version: FileVersion,
    now: float,
    *,
    generation: int | None = None,
    not_before: float = 0.0,
) -> bytes:
    """Queue one file whose transfer has ended otherwise; its tid.

    ``generation``: where it is the same version still; else it takes the next one of its path.
    """
    if generation is None:
        generation = _next_generations(writer, offer.topic, [version.path], now)[version.path]
    (tid,) = _new_tids(1, now)
    queue(writer, offer, [Queued(tid, version, generation, not_before)], now)
    return tid


def _next_generations(
    writer: Connection, topic: str, paths: Sequence[bytes], now: float
) -> dict[bytes, int]:
    """Take the next generation of each path; it is not given again."""
    last = dict(
        bulk.select(
            writer,
            "SELECT path, generation FROM outgoing_path WHERE topic = ? AND path IN {rows}",
            (topic,),
            paths,
        )
    )
    now_us = int(now * 1_000_000)
    generations = {path: next_generation(last.get(path), now_us) for path in paths}
    bulk.execute(
        writer,
        "INSERT INTO outgoing_path (topic, path, generation) VALUES {rows}"
        " ON CONFLICT DO UPDATE SET generation = excluded.generation",
        [(topic, path, generation) for path, generation in generations.items()],
    )
    return generations


def _give_way(
    writer: Connection, offer: Offer, older: Known, version: FileVersion, tid: bytes, now: float
) -> None:
    """A version that waits, of this very file on disk, can't be read any more: it was replaced."""
    replaced = writer.execute(
        "UPDATE outgoing SET state = 'cancelled', ended_at = ?, successor = ?,"
        " reason = 'a newer version of the file took its place'"
        " WHERE tid = ? AND source = ? AND state = 'queued'",
        (now, tid, older.tid, version.source),
    ).rowcount
    if replaced:
        ended = Ended(offer.route, offer.topic, "cancelled", older.size, version.path)
        tally.count(writer, "upload", [ended], now)


def born_ns(writer: Connection, route: str) -> int:
    """When this route was first started (ns since the epoch); noted if this is that moment."""
    writer.execute("INSERT OR IGNORE INTO route VALUES (?, ?)", (route, time.time_ns()))
    (born,) = writer.execute("SELECT born_ns FROM route WHERE name = ?", (route,)).fetchone()
    return int(born)
