"""Partials of which a disk may have lost something: they are removed, and their files read again
from the first record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kfd.daemon.incoming.checkpoint import Checkpoint
from kfd.daemon.incoming.outcomes import Outcomes
from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import DiskError, Partials


class Spoiled:
    """Of one consumer thread."""

    def __init__(
        self, reading: Reading, partials: Partials, checkpoint: Checkpoint, outcomes: Outcomes
    ) -> None:
        self._reading = reading
        self._partials = partials
        self._checkpoint = checkpoint
        self._outcomes = outcomes
        self._keys: list[PartKey] = []

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what an error of the disk says of a partial, and let the error pass."""
        try:
            yield
        except DiskError as error:
            if error.spoiled is not None:
                self._keys.append(error.spoiled)
            raise

    def void(self) -> None:
        """Read them again. Raises :class:`DiskError` as long as they can't be removed."""
        while self._keys:
            key = self._keys[-1]
            self._partials.discard(key)
            self._keys.pop()
            partition = self._reading.get(key.partition)
            if partition is not None and key.tid in partition.assembler:
                self._void(partition, key.tid)
                continue
            scattered = self._reading.gathering.find(key.tid)
            if scattered is not None:
                self._outcomes.take_back(scattered)
                self._reading.read_again(scattered)

    def void_one(self, key: PartKey) -> None:
        """Read one more again, likewise."""
        self._keys.append(key)
        self.void()

    def clear_away(self) -> None:
        """Keep nothing of partitions that are not ours."""
        self._keys = [key for key in self._keys if key.partition in self._reading]

    def _void(self, partition: Partition, tid: bytes) -> None:
        transfer = partition.assembler.find(tid)
        if transfer is not None:
            self._checkpoint.forget(transfer)
        self._outcomes.take_back(transfer)
        self._reading.rewind(partition, partition.assembler.void(tid))
