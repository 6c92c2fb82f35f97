"""Checkpoints: what was received of large files is made durable now and then, so that a restart
goes on with it.

First the bytes are synced, then the partial's mark says so; what Kafka is told comes from the
marks. A file that is complete within seconds is never part of one, so small files pay nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from kfd.daemon.crashpoint import reach
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partialmark import PartialMark
from kfd.daemon.publishing.partials import Partials
from kfd.transfer import OpenTransfer, State

EVERY_SECONDS = 5.0
EVERY_BYTES = 256 << 20
LEAST_BYTES = 8 << 20  # that are new of a transfer
LEAST_SECONDS = 30.0  # for which a transfer has had anything new
WORK_SECONDS = 1.0  # that a checkpoint may take, once it has saved one transfer
LEAVING_SECONDS = 5.0  # likewise, before partitions are given up


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A transfer that has something new since ``since`` (monotonic)."""

    transfer: OpenTransfer
    topic_id: str
    partition: int
    since: float

    @property
    def size(self) -> int:
        """Bytes that are new."""
        return self.transfer.received - self.transfer.saved * self.transfer.begin.chunk_size

    @property
    def key(self) -> PartKey:
        return PartKey(self.transfer.tid, self.partition)

    def mark(self) -> PartialMark:
        one = self.transfer
        return PartialMark(
            self.topic_id, self.partition, one.tid, one.begin, one.first_offset, one.next_index
        )


class Checkpoint:
    """The transfers of one consumer thread that have something new."""

    def __init__(self, partials: Partials) -> None:
        self._partials = partials
        self._unsaved: dict[OpenTransfer, _Unsaved] = {}
        self._size = 0
        self._next = 0.0  # monotonic

    def note(self, transfer: OpenTransfer, topic_id: str, partition: int, offset: int) -> None:
        """The record at ``offset`` was written into a partial."""
        self._size += transfer.begin.chunk_size
        if transfer.rest_offset is None:
            transfer.rest_offset = offset
            now = time.monotonic()
            self._unsaved[transfer] = _Unsaved(transfer, topic_id, partition, now)

    def forget(self, transfer: OpenTransfer) -> None:
        """A transfer is over, or is not ours any more."""
        self._unsaved.pop(transfer, None)

    def take(self, *, leaving: bool = False) -> None:
        """Save what is worth it, if it is time; with ``leaving`` all, at once.

        Raises :class:`DiskError`; a transfer whose sync failed is spoiled.
        """
        now = time.monotonic()
        if not leaving and now < self._next and self._size < EVERY_BYTES:
            return
        self._next, self._size = now + EVERY_SECONDS, 0
        worth = [one for one in self._unsaved.values() if leaving or _is_worth_it(one, now)]
        worth = [one for one in worth if one.transfer.state is State.RECEIVING]
        if worth:
            worth.sort(key=lambda one: one.size, reverse=True)
            self._save(worth, now + (LEAVING_SECONDS if leaving else WORK_SECONDS))

    def _save(self, worth: list[_Unsaved], until: float) -> None:
        synced: list[_Unsaved] = []
        for one in worth:
            self._partials.sync(one.key)
            synced.append(one)
            if time.monotonic() > until:
                break
        reach("checkpoint.synced")
        marked = {mark.tid for mark in self._partials.mark([one.mark() for one in synced])}
        reach("checkpoint.durable")
        for one in synced:
            del self._unsaved[one.transfer]
            # one that takes no mark keeps its ``rest_offset``, and is not tried again
            if one.transfer.tid in marked:
                one.transfer.saved = one.transfer.next_index
                one.transfer.rest_offset = None


def _is_worth_it(one: _Unsaved, now: float) -> bool:
    return one.size >= LEAST_BYTES or now - one.since >= LEAST_SECONDS
