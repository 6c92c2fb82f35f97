"""Transfers that end here, from their last record until that is on record.

They stay open till then, so that what repeats them is a duplicate, and their first offsets hold
back what is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kfd.daemon.incoming.checkpoint import Checkpoint
from kfd.daemon.incoming.drops import Drops
from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.incoming.transferlog import tell
from kfd.daemon.publishing.complete import Complete
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.naming import Rejection
from kfd.daemon.publishing.partials import Partials
from kfd.daemon.publishing.publisher import Publisher
from kfd.transfer import OpenTransfer
from kfd.units import human_duration
from kfd.wire import Reason


class Outcomes:
    """Of one consumer thread. Methods may raise :class:`DiskError`."""

    def __init__(
        self, terms: Terms, reading: Reading, drops: Drops, partials: Partials,
        publisher: Publisher, checkpoint: Checkpoint,
    ) -> None:  # fmt: skip
        self._terms = terms
        self._reading = reading
        self._drops = drops
        self._partials = partials
        self._publisher = publisher
        self._checkpoint = checkpoint
        self._complete: list[Complete] = []  # and not yet published
        self._rejected: list[tuple[Complete, Rejection]] = []  # and not yet on record
        self._unsettled: set[int] = set()  # partitions of which intents may be left

    @property
    def any_rejected(self) -> bool:
        """Whether anything is to be put on record that isn't published."""
        return bool(self._rejected)

    def complete(self, partition: Partition, transfer: OpenTransfer) -> None:
        """The last record came, and the digest is right."""
        self._complete.append(_whole(partition, transfer))

    def fail(
        self, partition: Partition, transfer: OpenTransfer, reason: Reason, offset: int
    ) -> None:
        """By the record at ``offset``, a transfer can't become whole any more."""
        self._drops.count(partition, offset, reason)
        self.refuse(partition, transfer, reason)

    def refuse(self, partition: Partition, transfer: OpenTransfer, reason: Reason) -> None:
        """As :meth:`fail`, where that is counted."""
        self._reject(partition, transfer, Rejection("quarantined", reason))

    def expire(self, partition: Partition, transfer: OpenTransfer) -> None:
        """Close a transfer of which nothing came for too long."""
        idle = partition.clock - transfer.touched
        room = " and others needed its place" if idle < self._terms.incomplete_timeout else ""
        reason = f"nothing more of it came for {human_duration(idle)}{room}"
        partition.assembler.end(transfer)
        self.give_up(partition, transfer, reason)

    def give_up(self, partition: Partition, transfer: OpenTransfer, reason: str) -> None:
        """A transfer is not received on."""
        self._drops.add(Reason.EXPIRED, partition, transfer.first_offset, reason)
        self._reject(partition, transfer, Rejection("expired", reason))

    def abort(self, partition: Partition, transfer: OpenTransfer) -> None:
        """The sender has given a transfer up."""
        tell(logging.INFO, self._terms.route, transfer, "given up by its sender")
        self._checkpoint.forget(transfer)
        self._partials.discard(PartKey(transfer.tid, partition.number))
        partition.assembler.close(transfer.tid)

    def take_back(self, transfer: OpenTransfer | None) -> None:
        """A transfer isn't complete any more: it is read again."""
        self._complete = [one for one in self._complete if one.transfer is not transfer]

    def record(self) -> None:
        """Publish what is complete, put on record what isn't to be."""
        self._close(self._publisher.publish(self._complete))
        self._close(self._publisher.reject(self._rejected))
        self._rejected = []

    def interrupted(self) -> None:
        """A disk failed: any of what was to be renamed may be."""
        self._unsettled.update(one.number for one in self._reading)

    def settle(self) -> None:
        """Bring to their end what was to be renamed, before anything of it is read again."""
        if self._unsettled:
            self._publisher.recover(self._unsettled)
            over = self._publisher.ended(self._complete)
            for one in over:
                self._partials.discard(one.key)  # what an exchange has left: the older version
            self._close(over)
            self._unsettled.clear()

    def clear_away(self) -> None:
        """Keep nothing of partitions that are not ours."""
        self._complete = [one for one in self._complete if one.partition in self._reading]
        self._rejected = [one for one in self._rejected if one[0].partition in self._reading]

    def _reject(self, partition: Partition, transfer: OpenTransfer, why: Rejection) -> None:
        self._rejected.append((_whole(partition, transfer), why))
        self._checkpoint.forget(transfer)

    def _close(self, over: Iterable[Complete]) -> None:
        ended = set(over)
        for one in ended:
            self._checkpoint.forget(one.transfer)
            self._reading.close(one.partition, one.transfer)
        self._complete = [one for one in self._complete if one not in ended]


def _whole(partition: Partition, transfer: OpenTransfer) -> Complete:
    return Complete(transfer, partition.topic_id, partition.number)
