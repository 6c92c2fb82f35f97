"""Where one consumer thread reads: its partitions, what came of them and was not looked at yet, and
where it has to go back to.

A record leaves the backlog, and its partition's position passes it, when everything was done with
it. What was read of a partition that goes back is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.record import Decoded, Decoder, Record, decode
from kfd.daemon.publishing.destination import PartKey
from kfd.offsets import Progress
from kfd.scattered import Gathering, ScatteredTransfer
from kfd.transfer import OpenTransfer


class Reading:
    """The partitions of one thread, used by it alone."""

    def __init__(self, gathering: Gathering, decode: Decoder = decode) -> None:
        """``gathering`` holds the files that are spread over the partitions."""
        self.gathering = gathering
        self._decode = decode
        self._partitions: dict[int, Partition] = {}
        self._backlog: deque[Decoded] = deque()
        self._rewinds: dict[int, int] = {}  # partition → offset to read on from instead

    def __getitem__(self, number: int) -> Partition:
        return self._partitions[number]

    def __contains__(self, number: object) -> bool:
        return number in self._partitions

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def get(self, number: int) -> Partition | None:
        """A partition, if it is ours."""
        return self._partitions.get(number)

    def add(self, partition: Partition) -> None:
        """A partition begins to be read."""
        self._partitions[partition.number] = partition

    def remove(self, number: int) -> None:
        """A partition is not ours any more; :meth:`clear_away` forgets what came of it."""
        self._partitions.pop(number, None)

    def clear_away(self) -> None:
        """Keep nothing of partitions that are not ours."""
        self._backlog = deque(one for one in self._backlog if one[0].partition in self)
        self._rewinds = {number: at for number, at in self._rewinds.items() if number in self}

    def put(self, records: Iterable[Record]) -> None:
        """Add what was read to the backlog."""
        self._backlog.extend(
            self._decode(record)
            for record in records
            if record.partition in self._partitions and record.partition not in self._rewinds
        )

    @property
    def backlog(self) -> deque[Decoded]:
        """What was read and not looked at, in the order of the partitions. Not to be changed."""
        return self._backlog

    def is_passed(self, record: Record) -> bool:
        """Everything was done with the first of the backlog: go on after it. False if its partition
        goes back instead."""
        if record.partition in self._rewinds:
            return False
        self._backlog.popleft()
        self._partitions[record.partition].advance(record.offset + 1)
        return True

    def rewind(self, partition: Partition, offset: int) -> None:
        """Read a partition on from ``offset``, unless that is further than it is."""
        number = partition.number
        partition.position = min(partition.position, offset)
        self._rewinds[number] = partition.position
        self._backlog = deque(one for one in self._backlog if one[0].partition != number)

    def take_rewinds(self) -> dict[int, int]:
        """Partition → offset to read on from, instead of where the client is; each told once."""
        rewinds, self._rewinds = self._rewinds, {}
        return rewinds

    def safe_offsets(self) -> dict[int, int]:
        """The offset to commit for each partition."""
        return {number: one.offset for number, one in self.progress().items()}

    def progress(self) -> dict[int, Progress]:
        """The offset to commit for each partition, and what is to be said with it."""
        return {one.number: one.progress(self.gathering.firsts(one.number)) for one in self}

    def positions(self) -> dict[int, int]:
        """The next offset of each partition."""
        return {one.number: one.position for one in self}

    def open_transfers(self) -> list[OpenTransfer]:
        """Files that are being put together."""
        kept = [transfer for one in self for transfer in one.assembler.open_transfers()]
        return [*kept, *self.gathering]

    def held(self) -> set[PartKey]:
        """The keys of their partials."""
        kept = {
            PartKey(transfer.tid, one.number)
            for one in self
            for transfer in one.assembler.open_transfers()
        }
        return kept | {PartKey(one.tid, one.home) for one in self.gathering}

    def close(self, partition: int, transfer: OpenTransfer) -> None:
        """Forget a transfer for good: what became of it is on record."""
        if isinstance(transfer, ScatteredTransfer):
            self.gathering.close(transfer)
        else:
            self[partition].assembler.close(transfer.tid)

    def read_again(self, transfer: ScatteredTransfer) -> None:
        """Begin a file anew that is spread: from its first record in each partition."""
        self.gathering.reset(transfer)
        for number, first in transfer.firsts.items():
            self.rewind(self[number], first)

    def rewind_leftovers(self) -> None:
        """Read again what is in the backlog."""
        for number in {record.partition for record, _ in self._backlog}:
            self.rewind(self[number], self[number].position)
