"""Publishing: complete partials get their final names, durably, once, and never over what isn't
an older version of the same file.

A batch goes through these steps, each for the whole batch; small files share the cost:

1. choose names, looking at what is there;
2. mode, mtime and mark on each partial, then fsync it;
3. the ledger: intents (tid, name, inode);
4. rename;
5. fsync each directory;
6. the ledger: published.

Killed before 3: the partials are discarded at start, and read again, for their offsets weren't
committed. After 3: :func:`settle` finds each intent's inode under its final name (published), in
``.kfd`` (renamed then), or nowhere (read again). After 6: nothing is left to do.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from kfd.assembly import OpenTransfer
from kfd.daemon.destination import Destination, Directories, PartKey
from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.ledger.incoming import Intent, Published, Received
from kfd.daemon.mark import Mark, lineage, read_mark, write_mark
from kfd.daemon.partials import DISK_ERRORS, DiskError, Partials
from kfd.paths import BadPath, Layout, conflict_name, escape
from kfd.wire import Begin

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Complete:
    """A partial that has every byte, verified, and where it came from."""

    transfer: OpenTransfer
    topic_id: str
    partition: int

    @property
    def key(self) -> PartKey:
        """Of the partial."""
        return PartKey(self.transfer.tid, self.partition)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a complete partial isn't published."""

    state: str  # quarantined or superseded
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Under which name a partial is published."""

    name: bytes  # relative to the route's directory
    directory: int
    replaces: bool  # an older version of the same file
    there: os.stat_result | None = None  # this very transfer is published already, as this


@dataclass(frozen=True, slots=True)
class Rules:
    """What a download route says about the files that it publishes."""

    route: str
    layout: Layout
    file_mode: int
    group: int  # gid, -1: the daemon's


class Publisher:
    """Publishes the batches of one consumer thread, in that thread."""

    def __init__(
        self,
        rules: Rules,
        destination: Destination,
        partials: Partials,
        ledger: Ledger,
        assigned: Container[int],
    ) -> None:
        """``assigned`` holds the partitions of which this thread may publish, as of now."""
        self._rules = rules
        self._destination = destination
        self._partials = partials
        self._ledger = ledger
        self._assigned = assigned

    def publish(self, batch: Sequence[Complete]) -> list[Complete]:
        """Publish, reject or skip each; those that are over now, and on record.

        The others are of partitions that were lost meanwhile. Raises :class:`DiskError`; then
        what wasn't renamed is neither published nor on record.
        """
        over: list[Complete] = []
        for group in _without_repeats(batch):
            try:
                with self._destination.directories() as directories:
                    over += self._publish_group(group, directories)
            except OSError as error:
                raise DiskError(error) from error
        return over

    def recover(self, partitions: Container[int]) -> None:
        """After a :class:`DiskError`, once the partials were discarded: settle what was intended.

        Raises :class:`DiskError` as long as the disk fails.
        """
        settle(self._rules.route, self._destination, self._ledger, partitions)

    def reject(self, rejected: Sequence[tuple[Complete, Rejection]]) -> list[Complete]:
        """Put on record that transfers ended unpublished, and drop their partials."""
        if rejected:
            self._reject(rejected)
        return [one for one, _ in rejected]

    def _publish_group(self, group: Sequence[Complete], directories: Directories) -> list[Complete]:
        planned: list[tuple[Complete, Plan]] = []
        rejected: list[tuple[Complete, Rejection]] = []
        for one in group:
            plan = self._plan(one.transfer, one.topic_id, directories)
            if isinstance(plan, Plan):
                planned.append((one, plan))
            else:
                rejected.append((one, plan))
        renamed: list[Complete] = []
        if planned:
            records = [self._prepare(one, plan) for one, plan in planned]
            self._ledger.write_patiently(lambda db: incoming.intend(db, records))
            renamed, refused = self._rename_all(planned, records, directories)
            rejected += refused
        return renamed + self.reject(rejected)

    def _plan(
        self, transfer: OpenTransfer, topic_id: str, directories: Directories
    ) -> Plan | Rejection:
        begin = transfer.begin
        newest = incoming.latest(
            self._ledger.reader(), self._rules.route, topic_id, begin.origin, begin.path
        )
        if newest is not None and newest.generation >= begin.generation:
            return Rejection("superseded", "a newer version of the file was published before")
        try:
            name = self._rules.layout.expand(begin.origin, begin.path, begin.topic)
            return self._place(transfer, name, newest, directories)
        except BadPath as error:
            return Rejection("quarantined", f"its name can't be used here: {error}")
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
            return Rejection("quarantined", f"its name can't be used here: {error.strerror}")

    def _place(
        self,
        transfer: OpenTransfer,
        name: bytes,
        newest: Published | None,
        directories: Directories,
    ) -> Plan | Rejection:
        parent, _, base = name.rpartition(b"/")
        directory = directories.open(parent, create=True)
        there = _look(directory, base)
        if there is None:
            return Plan(name, directory, replaces=False)
        status, mark = there
        if mark is not None and mark.tid == transfer.tid:
            return Plan(name, directory, replaces=False, there=status)
        ours = _is_unchanged_version(transfer.begin, name, there, newest)
        if ours and mark is not None and mark.generation > transfer.begin.generation:
            return Rejection("superseded", "a newer version of the file is already there")
        if not ours:
            return self._place_aside(transfer, parent, base, directory)
        return Plan(name, directory, replaces=True)

    def _place_aside(
        self, transfer: OpenTransfer, parent: bytes, base: bytes, directory: int
    ) -> Plan | Rejection:
        """A conflict name, for what may not replace the file that has its name."""
        other = conflict_name(base, transfer.tid)
        name = parent + b"/" + other if parent else other
        taken = _look(directory, other)
        if taken is None:
            return Plan(name, directory, replaces=False)
        status, mark = taken
        if mark is not None and mark.tid == transfer.tid:
            return Plan(name, directory, replaces=False, there=status)
        return Rejection("quarantined", "other files have its name and its conflict name")

    def _prepare(self, one: Complete, plan: Plan) -> Received:
        """Give a partial all that its final name promises, and make it durable."""
        transfer, begin = one.transfer, one.transfer.begin
        status = plan.there
        if status is None:
            fd = self._partials.descriptor(one.key)
            os.fchmod(fd, begin.mode & self._rules.file_mode)
            if self._rules.group >= 0:
                os.fchown(fd, -1, self._rules.group)
            write_mark(fd, Mark.of(transfer.tid, begin))
            os.utime(fd, ns=(begin.mtime_ns, begin.mtime_ns))
            os.fsync(fd)  # fdatasync would leave mode, mtime and mark behind
            status = os.fstat(fd)
        return replace(
            self._received(one), name=plan.name, device=status.st_dev, inode=inode_of(status)
        )

    def _received(self, one: Complete) -> Received:
        transfer = one.transfer
        return Received(
            self._rules.route, one.topic_id, one.partition, transfer.first_offset, transfer.tid,
            transfer.begin, transfer.digest, b"",
        )  # fmt: skip

    def _rename_all(
        self,
        planned: Sequence[tuple[Complete, Plan]],
        records: Sequence[Received],
        directories: Directories,
    ) -> tuple[list[Complete], list[tuple[Complete, Rejection]]]:
        """Rename what is planned: what is published now, and what can't be.

        On a failing disk the intents stay in the ledger, for :meth:`recover`.
        """
        done: list[tuple[Complete, Received]] = []
        skipped: list[Received] = []
        refused: list[tuple[Complete, Rejection]] = []
        for (one, plan), record in zip(planned, records, strict=True):
            if one.partition not in self._assigned:
                skipped.append(record)
                continue
            try:
                done.append((one, self._rename(plan, record, directories)))
            except OSError as error:
                if error.errno in DISK_ERRORS:
                    raise
                reason = f"its name can't be used here: {error.strerror}"
                refused.append((one, Rejection("quarantined", reason)))
        directories.sync()
        published = [record for _, record in done]
        self._ledger.write_patiently(lambda db: incoming.conclude(db, published, skipped))
        for one, record in done:
            self._partials.forget(one.key)
            log.info("published %s (%d bytes)", escape(record.name), record.begin.size)
        return [one for one, _ in done], refused

    def _rename(self, plan: Plan, record: Received, directories: Directories) -> Received:
        base = plan.name.rpartition(b"/")[2]
        key = PartKey(record.tid, record.partition)
        if plan.there is not None:
            self._partials.discard(key)
            return record
        if plan.replaces:
            self._destination.publish_over(key, plan.directory, base)
        else:
            try:
                self._destination.publish_new(key, plan.directory, base)
            except FileExistsError:
                return self._rename_aside(plan, record, directories)
        directories.changed(plan.directory)
        return record

    def _rename_aside(self, plan: Plan, record: Received, directories: Directories) -> Received:
        """Somebody made the name since it was chosen: theirs stays, ours gets a conflict name."""
        parent, _, base = plan.name.rpartition(b"/")
        other = conflict_name(base, record.tid)
        record = replace(record, name=parent + b"/" + other if parent else other)
        self._ledger.write_patiently(lambda db: incoming.rename_intent(db, record))
        key = PartKey(record.tid, record.partition)
        self._destination.publish_new(key, plan.directory, other)
        directories.changed(plan.directory)
        return record

    def _reject(self, rejected: Sequence[tuple[Complete, Rejection]]) -> None:
        rows = [(self._received(one), why.state, why.reason) for one, why in rejected]
        self._ledger.write_patiently(lambda db: incoming.reject(db, rows))
        for one, why in rejected:
            self._partials.discard(one.key)
            level = logging.INFO if why.state == "superseded" else logging.WARNING
            log.log(level, "%s %s: %s", why.state, escape(one.transfer.begin.path), why.reason)


def _without_repeats(batch: Sequence[Complete]) -> Iterator[list[Complete]]:
    """The batch in pieces, none of which has two versions of one file, or one name twice."""
    group: list[Complete] = []
    seen: set[bytes] = set()
    for one in batch:
        path = one.transfer.begin.path
        if path in seen:
            yield group
            group, seen = [], set()
        group.append(one)
        seen.add(path)
    if group:
        yield group


def _look(directory: int, name: bytes) -> tuple[os.stat_result, Mark | None] | None:
    """What has this name now, and its mark if it is a marked file; None if nothing has it."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return status, None
    with suppress(PermissionError, FileNotFoundError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            return os.fstat(fd), read_mark(fd)
        finally:
            os.close(fd)
    return status, None


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


def settle(
    route: str, destination: Destination, ledger: Ledger, partitions: Container[int] | None = None
) -> None:
    """Bring renames that were intended (of these partitions; None: of all) to their end.

    Called while nobody publishes what is of them. Raises :class:`DiskError`.
    """
    published: list[Intent] = []
    void: list[Intent] = []
    try:
        with destination.directories() as directories:
            for intent in incoming.intents(ledger.reader(), route):
                if partitions is None or intent.partition in partitions:
                    done = _settle_one(intent, destination, directories)
                    (published if done else void).append(intent)
            directories.sync()
    except OSError as error:
        raise DiskError(error) from error
    if published or void:
        ledger.write_patiently(lambda db: incoming.settle(db, route, published, void))
        log.info(
            "%s: of the publications that were interrupted, %d are done and %d are read again",
            *(route, len(published), len(void)),
        )


def _settle_one(intent: Intent, destination: Destination, directories: Directories) -> bool:
    """Whether the intended file has its final name now."""
    parent, _, base = intent.name.rpartition(b"/")
    key = PartKey(intent.tid, intent.partition)
    try:
        directory = directories.open(parent, create=True)
        there = _look(directory, base)
        if there is not None and inode_of(there[0]) == intent.inode:
            directories.changed(directory)
            return True
        if destination.part_inode(key) != intent.inode:
            return False
        if there is None:
            destination.publish_new(key, directory, base)
        elif _is_older(intent, *there):
            destination.publish_over(key, directory, base)
        else:
            return False
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        return False
    directories.changed(directory)
    return True


def _is_older(intent: Intent, status: os.stat_result, mark: Mark | None) -> bool:
    return (
        mark is not None
        and mark.lineage == lineage(intent.topic, intent.origin, intent.path)
        and mark.generation < intent.generation
        and mark.fits(status)
    )
