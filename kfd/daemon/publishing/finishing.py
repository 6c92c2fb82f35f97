"""What complete partials get before their names: owner, mtime, mark and mode, all of it durable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger.publications import NO_META, Received
from kfd.daemon.publishing import partialmark
from kfd.daemon.publishing.complete import Complete
from kfd.daemon.publishing.destination import Destination
from kfd.daemon.publishing.mark import Mark, write_mark
from kfd.daemon.publishing.naming import Plan, Rejection
from kfd.daemon.publishing.partials import DISK_ERRORS, DiskError, Partials
from kfd.wire import file_time

Planned = tuple[Complete, Plan]
Ready = tuple[Complete, Plan, Received]
"""A partial that is durable as it is to be, its name, and the row of its intent."""
Refused = tuple[Complete, Rejection]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a download route says about the files that it publishes."""

    route: str
    file_mode: int
    group: int  # gid, -1: the daemon's
    # what the ledger and catalogues are to know besides
    meta: Mapping[str, str] = field(default_factory=lambda: NO_META)


class Finishing:
    """Of one consumer thread."""

    def __init__(self, rules: Rules, destination: Destination, partials: Partials) -> None:
        self._rules = rules
        self._destination = destination
        self._partials = partials

    def finish(self, planned: Sequence[Planned]) -> tuple[list[Ready], list[Refused]]:
        """Give partials all that their final names promise, and make them durable.

        In two passes: the first fsync commits what was done to all of them, so that the others
        find little to do. An fsync right after each change would commit once a file.
        """
        ready, refused = self._mark_all(planned)
        reach("publish.marked")
        for one, plan, _ in ready:
            if plan.there is None:
                self._sync(one)
        reach("publish.prepared")
        return ready, refused

    def refusal(self, one: Complete, error: OSError) -> Refused:
        """What an error means for one file; raised again where it is no matter of that file."""
        if self._destination.part_status(one.key) is None:  # it is read again
            raise DiskError(error, self._destination.directory, one.key) from error
        if error.errno in DISK_ERRORS:
            raise error
        return one, Rejection("quarantined", f"it can't be put here: {error.strerror}")

    def _mark_all(self, planned: Sequence[Planned]) -> tuple[list[Ready], list[Refused]]:
        ready: list[Ready] = []
        refused: list[Refused] = []
        for one, plan in planned:
            try:
                status = plan.there or self._mark(one)
            except OSError as error:
                refused.append(self.refusal(one, error))
            else:
                ready.append((one, plan, self._row(one, plan, status)))
        return ready, refused

    def _row(self, one: Complete, plan: Plan, status: os.stat_result) -> Received:
        return one.received(self._rules.route, plan.name, status, self._rules.meta)

    def _mark(self, one: Complete) -> os.stat_result:
        """Owner, times, mark and mode of a partial that has all its bytes."""
        begin = one.transfer.begin
        fd = self._partials.descriptor(one.key)
        if self._rules.group >= 0:
            os.fchown(fd, -1, self._rules.group)
        if one.transfer.saved:
            partialmark.remove(fd)
        mtime_ns = file_time(begin.mtime_ns)
        os.utime(fd, ns=(mtime_ns, mtime_ns))
        status = os.fstat(fd)
        write_mark(fd, Mark.of(one.transfer.tid, begin, status.st_mtime_ns))
        # last: a file that nobody may write takes no mark any more, not even by its owner
        os.fchmod(fd, begin.mode & self._rules.file_mode)
        return status

    def _sync(self, one: Complete) -> None:
        """Make a partial durable; fdatasync would leave mode, mtime and mark behind."""
        try:
            os.fsync(self._partials.descriptor(one.key))
        except OSError as error:
            raise DiskError(error, self._destination.directory, one.key) from error
