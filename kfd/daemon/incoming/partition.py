"""A partition while a consumer thread reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kfd.assembly import Assembler
from kfd.offsets import Open, Progress
from kfd.transfer import OpenTransfer, State

NONE: Mapping[int, bytes] = {}
IDLE_SECONDS = 60.0  # after which a transfer may be closed to make room for another one


@dataclass(frozen=True, slots=True)
class Deferred:
    """A file that waits for space since the partition's clock was at ``since``."""

    size: int  # bytes
    at_once: bool  # of one record
    since: float


@dataclass(slots=True, eq=False)
class Partition:
    """``position`` is the next offset to be read, ``reached`` the highest that it ever was: all
    that began before it has ended, is open, or is to be read again.

    ``clock`` counts the seconds in which nothing more was there to be read: by it transfers are
    told idle, so that an outage or a backlog makes none of them old.
    """

    number: int
    topic_id: str
    assembler: Assembler
    position: int
    reached: int
    inherited: Mapping[int, Open] = field(default_factory=dict)  # as in ``Progress``
    ended_below: int = 0  # what began before has ended elsewhere, but for the inherited ones
    clock: float = 0.0
    deferred: dict[bytes, Deferred] = field(default_factory=dict)  # by tid
    _crowded_until: float = 0.0  # by the clock: before, none of the open ones is idle for long

    def inherit(self, progress: Progress, held: Mapping[tuple[int, bytes], int]) -> None:
        """Go on where a former owner was, who committed ``progress``; ``held`` are the partials
        that are durable here, as in :meth:`Progress.start`."""
        self.assembler.trust(progress.position, progress.open)
        self.position = progress.start(held)
        self.reached = self.ended_below = progress.position
        self.inherited = progress.open

    def advance(self, position: int) -> None:
        """The record before ``position`` was read."""
        self.position = position
        self.reached = max(self.reached, position)

    def progress(self, spread: Mapping[int, bytes] = NONE) -> Progress:
        """What to commit; ``spread`` are open files of which only a part lies here: the offsets of
        their first records, and their versions."""
        # what the former owner had open, and was not read again so far, is open still
        opened = {first: one for first, one in self.inherited.items() if first >= self.position}
        for tid, first in self.assembler.first_offsets.items():
            opened[first] = self._open(self.assembler.find(tid), tid, first)
        for first, version in spread.items():
            opened[first] = Open(version[-4:], 0, first)
        offset = min([self.assembler.safe_offset(self.position), *spread])
        return Progress(self.topic_id, offset, self.reached, dict(sorted(opened.items())))

    def _open(self, transfer: OpenTransfer | None, tid: bytes, first: int) -> Open:
        if transfer is None or not transfer.saved:
            return Open(tid[-4:], 0, first)
        rest = transfer.rest_offset
        if rest is None:
            # not what was ever reached: after a restart the next chunk may lie before that
            rest = max(first, self.position)
        return Open(tid[-4:], transfer.saved, rest)

    def is_passed_over(self, offset: int, version: bytes) -> bool:
        """Whether a record of a file that is spread was of one that has ended elsewhere."""
        if offset >= self.ended_below:
            return False
        return all(one.tail != version[-4:] for one in self.inherited.values())

    def defer(self, transfer: OpenTransfer) -> None:
        """Read a transfer again from its first record, when there is space for it."""
        begin = transfer.begin
        waits = Deferred(begin.size, begin.chunks == 1, self.clock)
        self.assembler.void(transfer.tid)
        self.deferred.setdefault(transfer.tid, waits)

    def give_up_deferred(self, seconds: float) -> list[bytes]:
        """Close what has waited for space for so long; the tids."""
        late = [tid for tid, one in self.deferred.items() if self.clock - one.since >= seconds]
        for tid in late:
            del self.deferred[tid]
            self.assembler.close(tid)
        return late

    def expected(self) -> int:
        """Bytes still to come of what isn't idle: a claim alone keeps no space for long."""
        since = self.clock - IDLE_SECONDS
        return sum(one.remaining for one in self.receiving() if one.touched > since)

    def receiving(self) -> list[OpenTransfer]:
        """Files of several records of which more is to come."""
        opened = self.assembler.open_transfers()
        return [transfer for transfer in opened if transfer.state is State.RECEIVING]

    def idle(self, seconds: float) -> list[OpenTransfer]:
        """Those of which nothing came for so long."""
        since = self.clock - seconds
        return [transfer for transfer in self.receiving() if transfer.touched <= since]

    def idlest(self) -> OpenTransfer | None:
        """The one that may be closed to make room, if any may."""
        if self.clock < self._crowded_until:
            return None
        idlest = min(self.receiving(), key=lambda one: one.touched, default=None)
        if idlest is None or self.clock - idlest.touched >= IDLE_SECONDS:
            return idlest
        self._crowded_until = idlest.touched + IDLE_SECONDS
        return None
