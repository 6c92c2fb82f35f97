"""Going on with durable partials after a restart: which of them, and their digests so far.

What the files say is not believed further than the digest of the whole file, which is compared when
it is complete: a partial that was damaged costs reading the file again.
"""

from __future__ import annotations

from collections import deque

from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partialmark import PartialMark
from kfd.daemon.publishing.partials import Partials
from kfd.offsets import Progress
from kfd.transfer import OpenTransfer

Held = dict[tuple[int, bytes], int]
"""(first offset, last four bytes of the tid) → chunks that are durable here."""


class Restoring:
    """Of one consumer thread."""

    def __init__(self, route: str, ledger: Ledger, partials: Partials) -> None:
        self._route = route
        self._ledger = ledger
        self._partials = partials
        # whose hashers have not seen all that was received
        self._behind: deque[tuple[int, OpenTransfer]] = deque()  # with their partitions

    def restore(self, partition: Partition, progress: Progress | None) -> Held:
        """Take up the durable partials of a partition that begins to be read.

        Its position is the committed offset. Others are removed. Raises :class:`DiskError`.
        """
        marks = sorted(self._partials.durable(partition.number), key=lambda mark: mark.first_offset)
        closed = incoming.closed(
            self._ledger.reader(), self._route, partition.topic_id, partition.number,
            [mark.tid for mark in marks],
        )  # fmt: skip
        held: Held = {}
        for mark in marks:
            if mark.tid not in closed and _goes_on(mark, partition, progress):
                held[mark.first_offset, mark.tid[-4:]] = mark.chunks
                self._take_up(mark, partition)
            else:
                self._partials.discard(PartKey(mark.tid, mark.partition))
        return held

    def hash_again(self, partition: Partition, transfer: OpenTransfer) -> None:
        """The hasher of an open transfer has been reset."""
        self._behind.append((partition.number, transfer))

    def catch_up(self, reading: Reading, size: int) -> bool:
        """Feed hashers with at most ``size`` bytes of their partials; whether there are more.

        Raises :class:`DiskError`, with the partial that can't be read.
        """
        while self._behind and size > 0:
            number, transfer = self._behind[0]
            partition = reading.get(number)
            if partition is None or partition.assembler.find(transfer.tid) is not transfer:
                self._behind.popleft()
                continue
            end = min(transfer.received, transfer.hashed + size)
            key = PartKey(transfer.tid, number)
            self._partials.hash(key, transfer.hasher, transfer.hashed, end)
            size -= end - transfer.hashed
            transfer.hashed = end
            if transfer.hashed == transfer.received:
                self._behind.popleft()
        return bool(self._behind)

    def _take_up(self, mark: PartialMark, partition: Partition) -> None:
        transfer = partition.assembler.restore(mark.tid, mark.begin, mark.first_offset, mark.chunks)
        transfer.saved = mark.chunks
        self._behind.append((partition.number, transfer))


def _goes_on(mark: PartialMark, partition: Partition, progress: Progress | None) -> bool:
    """Whether a transfer is still wanted, and no other one holds its place."""
    assembler, first = partition.assembler, mark.first_offset
    if mark.topic_id != partition.topic_id or not assembler.would_take(mark.begin):
        return False
    if first < partition.position or first in assembler.first_offsets.values():
        return False
    if progress is None or first >= progress.position:
        return True
    one = progress.open.get(first)
    return one is not None and one.tail == mark.tid[-4:]
