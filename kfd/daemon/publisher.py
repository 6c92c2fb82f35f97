"""Publishing: complete partials get their final names, durably, once, and never over what isn't
an older version of the same file.

A batch goes through these steps, each for the whole batch; small files share the cost:

1. choose names, looking at what is there;
2. mode, mtime and mark on each partial, then fsync it;
3. the ledger: intents (tid, name, inode);
4. rename;
5. fsync each directory;
6. the ledger: published.

Killed before 3: at start the partials are durable ones that go on, or are removed and read again;
their offsets weren't committed. After 3: ``settlement.py`` finds each intent's inode under its
final name (published), in ``.kfd`` (renamed then), or nowhere (read again). After 6: nothing is
left to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from kfd.assembly import OpenTransfer
from kfd.daemon import partialmark
from kfd.daemon.crashpoint import reach
from kfd.daemon.destination import Destination, Directories, PartKey
from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.ledger.incoming import Received
from kfd.daemon.mark import Mark, write_mark
from kfd.daemon.naming import Naming, Plan, Rejection, is_same, look
from kfd.daemon.partials import DISK_ERRORS, DiskError, Partials
from kfd.daemon.settlement import settle
from kfd.paths import conflict_name, escape

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


Ready = tuple[Complete, Plan, Received]
"""A partial that is durable as it is to be, its name, and the row of its intent."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a download route says about the files that it publishes."""

    route: str
    file_mode: int
    group: int  # gid, -1: the daemon's


class Publisher:
    """Publishes the batches of one consumer thread, in that thread."""

    def __init__(
        self,
        rules: Rules,
        naming: Naming,
        destination: Destination,
        partials: Partials,
        ledger: Ledger,
        assigned: Container[int],
    ) -> None:
        """``assigned`` holds the partitions of which this thread may publish, as of now."""
        self._rules = rules
        self._naming = naming
        self._destination = destination
        self._partials = partials
        self._ledger = ledger
        self._assigned = assigned

    def publish(self, batch: Sequence[Complete]) -> list[Complete]:
        """Publish, reject or skip each; those that are over now, and on record.

        The others are of partitions that were lost meanwhile. Raises :class:`DiskError`; then
        some may be published or intended to be: :meth:`recover`, and :meth:`ended` tells.
        """
        over: list[Complete] = []
        for group in _without_repeats(batch):
            try:
                with self._destination.directories() as directories:
                    over += self._publish_group(group, directories)
            except OSError as error:
                raise DiskError(error, self._destination.directory) from error
        return over

    def ended(self, batch: Sequence[Complete]) -> list[Complete]:
        """Those that are on record as over."""
        keys = [(one.topic_id, one.partition, one.transfer.tid) for one in batch]
        closed = incoming.closed_among(self._ledger.reader(), self._rules.route, keys)
        return [one for one, key in zip(batch, keys, strict=True) if key in closed]

    def recover(self, partitions: Container[int]) -> None:
        """After a :class:`DiskError`, before partials are discarded: settle what was intended.

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
        newest = self._naming.newest([(one.topic_id, one.transfer.begin) for one in group])
        for one in group:
            begin = one.transfer.begin
            before = newest.get((one.topic_id, begin.origin, begin.path))
            plan = self._naming.plan(one.transfer, before, directories)
            if isinstance(plan, Plan):
                planned.append((one, plan))
            else:
                rejected.append((one, plan))
        ready, refused = self._prepare(planned)
        rejected += refused
        renamed: list[Complete] = []
        if ready:
            records = [record for _, _, record in ready]
            self._ledger.write_patiently(lambda db: incoming.intend(db, records))
            reach("publish.intended")
            renamed, refused = self._rename_all(ready, directories)
            rejected += refused
        return renamed + self.reject(rejected)

    def _prepare(
        self, planned: Sequence[tuple[Complete, Plan]]
    ) -> tuple[list[Ready], list[tuple[Complete, Rejection]]]:
        """Give partials all that their final names promise, and make them durable.

        In two passes: the first fsync commits what was done to all of them, so that the others
        find little to do. An fsync right after each change would commit once a file.
        """
        ready: list[Ready] = []
        refused: list[tuple[Complete, Rejection]] = []
        for one, plan in planned:
            try:
                status = plan.there or self._finish(one)
            except OSError as error:
                refused.append((one, self._refusal(one, error)))
            else:
                ready.append((one, plan, self._received(one, plan.name, status)))
        reach("publish.marked")
        for one, plan, _ in ready:
            if plan.there is None:
                self._sync(one)
        reach("publish.prepared")
        return ready, refused

    def _sync(self, one: Complete) -> None:
        """Make a partial durable; fdatasync would leave mode, mtime and mark behind."""
        try:
            os.fsync(self._partials.descriptor(one.key))
        except OSError as error:
            raise DiskError(error, self._destination.directory, one.key) from error

    def _refusal(self, one: Complete, error: OSError) -> Rejection:
        """What an error means for one file; raised again where it is no matter of that file."""
        if self._destination.part_status(one.key) is None:  # it is read again
            raise DiskError(error, self._destination.directory, one.key) from error
        if error.errno in DISK_ERRORS:
            raise error
        return Rejection("quarantined", f"it can't be put here: {error.strerror}")

    def _finish(self, one: Complete) -> os.stat_result:
        """Owner, times, mark and mode of a partial that has all its bytes."""
        begin = one.transfer.begin
        fd = self._partials.descriptor(one.key)
        if self._rules.group >= 0:
            os.fchown(fd, -1, self._rules.group)
        if one.transfer.saved:
            partialmark.remove(fd)
        os.utime(fd, ns=(begin.mtime_ns, begin.mtime_ns))
        status = os.fstat(fd)
        write_mark(fd, Mark.of(one.transfer.tid, begin, status.st_mtime_ns))
        # last: a file that nobody may write takes no mark any more, not even by its owner
        os.fchmod(fd, begin.mode & self._rules.file_mode)
        return status

    def _received(self, one: Complete, name: bytes, status: os.stat_result | None) -> Received:
        """The row of a transfer; ``status`` is that of its file, if it was made."""
        transfer = one.transfer
        return Received(
            route=self._rules.route,
            topic_id=one.topic_id,
            partition=one.partition,
            first_offset=transfer.first_offset,
            tid=transfer.tid,
            begin=transfer.begin,
            digest=transfer.digest,
            name=name,
            mtime_ns=status.st_mtime_ns if status else transfer.begin.mtime_ns,
            device=status.st_dev if status else 0,
            inode=inode_of(status) if status else 0,
        )

    def _rename_all(
        self, ready: Sequence[Ready], directories: Directories
    ) -> tuple[list[Complete], list[tuple[Complete, Rejection]]]:
        """Rename what is ready: what is published now, and what can't be.

        On a failing disk the intents stay in the ledger, for :meth:`recover`.
        """
        done: list[tuple[Complete, Received]] = []
        skipped: list[Received] = []
        refused: list[tuple[Complete, Rejection]] = []
        for one, plan, record in ready:
            if one.partition not in self._assigned:
                skipped.append(record)
                continue
            try:
                done.append((one, self._rename(plan, record, directories)))
            except OSError as error:
                refused.append((one, self._refusal(one, error)))
        directories.sync()
        reach("publish.synced")
        published = [record for _, record in done]
        self._ledger.write_patiently(lambda db: incoming.conclude(db, published, skipped))
        reach("publish.concluded")
        for one, _ in done:
            self._partials.forget(one.key)
        _log_published(published)
        return [one for one, _ in done], refused

    def _rename(self, plan: Plan, record: Received, directories: Directories) -> Received:
        base = plan.name.rpartition(b"/")[2]
        key = PartKey(record.tid, record.partition)
        if plan.there is not None:
            self._partials.discard(key)
            return record
        if plan.replaces is not None:
            named = self._replace(key, plan.directory, base, plan.replaces)
        else:
            named = self._name(key, plan.directory, base)
        if not named:
            return self._rename_aside(plan, record, directories)
        reach("publish.renamed")
        directories.changed(plan.directory)
        return record

    def _name(self, key: PartKey, directory: int, base: bytes) -> bool:
        """Give a partial a name that was free; false if it isn't any more."""
        try:
            self._destination.publish_new(key, directory, base)
        except FileExistsError:
            return False
        return True

    def _replace(self, key: PartKey, directory: int, base: bytes, older: os.stat_result) -> bool:
        """Put a partial in the place of ``older``; false if that isn't there any more as it was.

        By an exchange, so that what comes out can be looked at: what somebody changed since the
        plan was made goes back. Killed in between: :func:`settle` does the same.
        """
        there = look(directory, base)
        if there is None:
            return self._name(key, directory, base)
        if not is_same(there[0], older):
            return False
        if not self._destination.exchange(key, directory, base):
            self._destination.publish_over(key, directory, base)
            return True
        reach("publish.exchanged")
        displaced = self._destination.part_status(key)
        if displaced is not None and not is_same(displaced, older):
            self._destination.exchange(key, directory, base)
            reach("publish.exchanged-back")
            return False
        self._partials.discard(key)
        return True

    def _rename_aside(self, plan: Plan, record: Received, directories: Directories) -> Received:
        """Somebody made the name since it was chosen: theirs stays, ours gets a conflict name."""
        parent, _, base = plan.name.rpartition(b"/")
        other = conflict_name(base, record.tid)
        record = replace(record, name=parent + b"/" + other if parent else other)
        self._ledger.write_patiently(lambda db: incoming.rename_intent(db, record))
        reach("publish.intended-aside")
        key = PartKey(record.tid, record.partition)
        self._destination.publish_new(key, plan.directory, other)
        directories.changed(plan.directory)
        return record

    def _reject(self, rejected: Sequence[tuple[Complete, Rejection]]) -> None:
        rows = [(self._received(one, b"", None), why.state, why.reason) for one, why in rejected]
        self._ledger.write_patiently(lambda db: incoming.reject(db, rows))
        reach("reject.recorded")
        for one, why in rejected:
            self._partials.discard(one.key)
            level = logging.INFO if why.state == "superseded" else logging.WARNING
            log.log(level, "%s %s: %s", why.state, escape(one.transfer.begin.path), why.reason)


def _log_published(published: Sequence[Received]) -> None:
    """One line a batch: the ledger tells of each file, the log of what is going on."""
    if published:
        size = sum(record.begin.size for record in published)
        others = f" and {len(published) - 1} more" if len(published) > 1 else ""
        log.info("published %s%s (%d bytes)", escape(published[0].name), others, size)


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
