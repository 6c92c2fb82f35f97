"""Files that may be begun, and files that have to wait for space.

One that waits is read again from its first record, which holds back what is committed; others go
on. When a disk is full in spite of that, the youngest that was begun is given up to wait likewise.
"""

from __future__ import annotations

import logging

from kfd.daemon.incoming.checkpoint import Checkpoint
from kfd.daemon.incoming.partition import IDLE_SECONDS, Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.incoming.space import Space
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.incoming.transferlog import tell
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import Partials
from kfd.transfer import OpenTransfer
from kfd.verdict import Append, Drop
from kfd.wire import Reason

MAX_DEFERRED = 1024  # files of a partition that wait for space; then all of it waits


class Deferral:
    """Of one consumer thread. Methods may raise :class:`DiskError`."""

    def __init__(
        self, terms: Terms, reading: Reading, space: Space, partials: Partials,
        checkpoint: Checkpoint,
    ) -> None:  # fmt: skip
        self._terms = terms
        self._reading = reading
        self._space = space
        self._partials = partials
        self._checkpoint = checkpoint

    def look(self) -> None:
        """Look at the space, once for all that may be begun."""
        opened = [transfer for one in self._reading for transfer in one.receiving()]
        oldest = min((transfer.tid for transfer in opened), default=None)
        expected = sum(one.expected() for one in self._reading)
        self._space.look(expected + self._reading.gathering.expected(IDLE_SECONDS), oldest)

    def unless_huge(self, partition: Partition, first: Append) -> Append | Drop:
        """What could not be here even alone is refused, and doesn't wait for space."""
        begin = first.transfer.begin
        if not self._space.is_too_small(begin.size):
            return first
        partition.assembler.take_back(first.transfer, begin.chunk_length(0))
        return Drop(Reason.TOO_BIG)

    def admit(self, partition: Partition, transfer: OpenTransfer, length: int) -> bool:
        """Whether there is room for a file, of which ``length`` bytes came; else it is read again
        later, when there is."""
        size = transfer.begin.size
        if self._space.fits(size, at_once=transfer.begin.chunks == 1):
            self._space.take(size)
            partition.deferred.pop(transfer.tid, None)
            return True
        if len(partition.deferred) >= MAX_DEFERRED:
            partition.assembler.take_back(transfer, length)
            raise self._space.full()
        partition.defer(transfer)
        return False

    def retry(self) -> None:
        """Go back to files that had to wait, if there is space for them now."""
        waiting = [one for one in self._reading if one.deferred]
        if waiting:
            self.look()
        for partition in waiting:
            first_offsets = partition.assembler.first_offsets
            fitting = [
                tid for tid, one in partition.deferred.items()
                if self._space.fits(one.size, at_once=one.at_once)
            ]  # fmt: skip
            if fitting:
                self._reading.rewind(partition, min(first_offsets[tid] for tid in fitting))

    def sizes(self) -> list[int]:
        """Of the files that wait, in bytes."""
        return [one.size for partition in self._reading for one in partition.deferred.values()]

    def give_up_youngest(self) -> bool:
        """Let the youngest file wait, so that others can be finished; false if the last one is the
        oldest of all on this file system."""
        opened = [(transfer, one) for one in self._reading for transfer in one.receiving()]
        if not opened or (len(opened) == 1 and self._space.is_oldest(opened[0][0].tid)):
            return False
        transfer, partition = max(opened, key=lambda one: one[0].tid)
        self._partials.discard(PartKey(transfer.tid, partition.number))
        self._checkpoint.forget(transfer)
        partition.defer(transfer)
        why = "waits for space, so that older files can be finished"
        tell(logging.WARNING, self._terms.route, transfer, why)
        return True
