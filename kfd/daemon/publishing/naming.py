"""Which final name a complete partial gets: its own, a conflict name, or none.

A name that is taken is given only to a newer version of the very file that kfd put there and
nobody touched since; the mark on the file tells, or the ledger where there are no marks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.ledger.incoming import Published
from kfd.daemon.publishing.destination import Directories
from kfd.daemon.publishing.mark import Mark, lineage, read_mark
from kfd.daemon.publishing.partials import DISK_ERRORS
from kfd.paths import BadPath, Layout, conflict_name, escape
from kfd.transfer import OpenTransfer
from kfd.wire import Begin

# O_NONBLOCK: a pipe that takes a file's place meanwhile must not hang the thread
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


Version = tuple[str, str, bytes]
"""Topic id, origin and path: what all versions of a file have in common."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a partial isn't published."""

    state: str  # quarantined, superseded or expired
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Under which name a partial is published."""

    name: bytes  # relative to the route's directory
    directory: int
    replaces: os.stat_result | None = None  # an older version of the same file
    there: os.stat_result | None = None  # this very transfer is published already, as this


class Naming:
    """Chooses names for one route. Used in each of its consumer threads."""

    def __init__(self, route: str, layout: Layout, ledger: Ledger) -> None:
        self._route = route
        self._layout = layout
        self._ledger = ledger

    def newest(self, files: Iterable[tuple[str, Begin]]) -> dict[Version, Published]:
        """The newest published versions of files, each with its topic id: one look for a batch."""
        paths: dict[tuple[str, str], list[bytes]] = {}
        for topic_id, begin in files:
            paths.setdefault((topic_id, begin.origin), []).append(begin.path)
        reader = self._ledger.reader()
        return {
            (topic_id, origin, path): published
            for (topic_id, origin), some in paths.items()
            for path, published in incoming.newest(
                reader, self._route, topic_id, origin, some
            ).items()
        }

    def plan(
        self, transfer: OpenTransfer, newest: Published | None, directories: Directories
    ) -> Plan | Rejection:
        """The name for a transfer as things are now; ``newest`` is of its file.

        Raises :class:`OSError` of a failing disk.
        """
        begin = transfer.begin
        if newest is not None and newest.generation >= begin.generation:
            return Rejection("superseded", "a newer version of the file was published before")
        try:
            name = self._layout.expand(begin.origin, begin.path, begin.topic)
        except BadPath as error:
            return Rejection("quarantined", f"its name can't be used here: {error}")
        return self.plan_as(transfer, name, newest, directories)

    def plan_as(
        self,
        transfer: OpenTransfer,
        name: bytes,
        newest: Published | None,
        directories: Directories,
    ) -> Plan | Rejection:
        """As :meth:`plan`, for a name that was chosen already; also for an older version."""
        try:
            return self._place(transfer, name, newest, directories)
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
            return Rejection("quarantined", f"its name can't be used here: {_placed(error)}")

    def _place(
        self,
        transfer: OpenTransfer,
        name: bytes,
        newest: Published | None,
        directories: Directories,
    ) -> Plan | Rejection:
        parent, _, base = name.rpartition(b"/")
        directory = directories.open(parent, create=True)
        there = look(directory, base)
        if there is None:
            return Plan(name, directory)
        status, mark = there
        if _is_this(mark, transfer):
            return Plan(name, directory, there=status)
        if _is_newer(mark, transfer.begin):  # whatever the ledger knows: it may be a new one
            return Rejection("superseded", "a newer version of the file is already there")
        if not _is_unchanged_version(transfer.begin, name, there, newest):
            return self._place_aside(transfer, parent, base, directory)
        return Plan(name, directory, replaces=status)

    def _place_aside(
        self, transfer: OpenTransfer, parent: bytes, base: bytes, directory: int
    ) -> Plan | Rejection:
        """A conflict name, for what may not replace the file that has its name."""
        other = conflict_name(base, transfer.tid)
        name = parent + b"/" + other if parent else other
        taken = look(directory, other)
        if taken is None:
            return Plan(name, directory)
        status, mark = taken
        if _is_this(mark, transfer):
            return Plan(name, directory, there=status)
        return Rejection("quarantined", "other files have its name and its conflict name")


def _placed(error: OSError) -> str:
    """What is the matter, and with which part of the name, as far as that is known."""
    name = error.filename  # of a call on a descriptor: that
    place = f": {escape(os.fsencode(name))}" if name and isinstance(name, str | bytes) else ""
    return f"{error.strerror}{place}"


def look(directory: int, name: bytes) -> tuple[os.stat_result, Mark | None] | None:
    """What has this name now, and its mark if it is a marked file; None if nothing has it."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return status, None
    with suppress(PermissionError, FileNotFoundError):
        fd = os.open(name, _LOOK, dir_fd=directory)
        try:
            return os.fstat(fd), read_mark(fd)
        finally:
            os.close(fd)
    return status, None


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether a file is still the one that was looked at, and was not written since."""
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        *(other.st_dev, other.st_ino, other.st_size, other.st_mtime_ns),
    )


def _is_unchanged_version(
    begin: Begin, name: bytes, there: tuple[os.stat_result, Mark | None], newest: Published | None
) -> bool:
    """Whether what is there is a version of this file, as kfd published it."""
    status, mark = there
    if mark is not None:
        line = lineage(begin.topic, begin.origin, begin.path)
        return mark.lineage == line and mark.fits(status)
    # a file system without marks: the ledger's record of what was published is the mark
    return newest is not None and (
        (newest.name, newest.inode, newest.size, newest.mtime_ns)
        == (name, inode_of(status), status.st_size, status.st_mtime_ns)
    )


def _is_newer(mark: Mark | None, begin: Begin) -> bool:
    """Whether a marked file is this version of the same file or a newer one, also if edited."""
    line = lineage(begin.topic, begin.origin, begin.path)
    return mark is not None and mark.lineage == line and mark.generation >= begin.generation


def _is_this(mark: Mark | None, transfer: OpenTransfer) -> bool:
    """Whether a marked file is what this transfer brings, published before.

    By the transfer itself, or by another one of the same version: a sender sends again what was in
    a topic that was deleted and made again before it had a receipt.
    """
    begin = transfer.begin
    if mark is None or mark.lineage != lineage(begin.topic, begin.origin, begin.path):
        return False
    version = (mark.generation, mark.size, mark.mtime_ns)
    return mark.tid == transfer.tid or version == (begin.generation, begin.size, begin.mtime_ns)
