"""What is counted of the records that aren't used, each once: not again when it is read again, and
not what a former owner of the partition has counted.
"""

from __future__ import annotations

from collections.abc import Container

from kfd.daemon.incoming.badrecords import BadRecords
from kfd.daemon.incoming.losses import Losses
from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import Ledger, dropped
from kfd.daemon.throttle import Throttle
from kfd.wire import Header, Reason


class Drops:
    """Of one consumer thread."""

    def __init__(self, route: str, topic: str, ledger: Ledger, throttle: Throttle) -> None:
        self._route = route
        self._topic = topic
        self._ledger = ledger
        self._bad = BadRecords(route, topic, throttle)
        self._losses = Losses()
        # (topic id, partition) → offset below which everything was counted
        self._counted: dict[tuple[str, int], int] = {}

    def passed(self, partition: Partition, offset: int) -> None:
        """What is before ``offset`` was counted, here or by who read it before."""
        key = partition.topic_id, partition.number
        self._counted[key] = max(offset, self._counted.get(key, 0))

    def begins_anew(self, partition: Partition) -> None:
        """Its offsets are those of other records now."""
        self._counted.pop((partition.topic_id, partition.number), None)

    def count(self, partition: Partition, offset: int, reason: Reason, detail: str = "") -> None:
        """The record at ``offset`` isn't used."""
        if not self._is_counted(partition, offset):
            self._bad.add(reason, partition.number, offset, detail)

    def drop(
        self, partition: Partition, record: Record, header: Header, reason: Reason,
        known: Container[bytes],
    ) -> None:  # fmt: skip
        """A record of kfd's isn't used; ``known`` are those that have ended here."""
        if not self._is_counted(partition, record.offset):
            self._losses.dropped(partition, header, reason, known)
        self.count(partition, record.offset, reason)

    def add(
        self, reason: Reason, partition: Partition, offset: int, detail: str, count: int = 1
    ) -> None:
        """Count what is no record that was just read."""
        self._bad.add(reason, partition.number, offset, detail, count)

    def lose(self, tid: bytes, reason: Reason) -> None:
        """A transfer can't come any more."""
        self._losses.lose(self._topic, tid, reason)

    def save(self) -> None:
        """Before the offset is committed; killed in between, they are counted twice, not never."""
        bad, route = self._bad.take(), self._route
        lost, repeated = self._losses.take()
        if bad or lost or repeated:
            self._ledger.write_patiently(
                lambda db: dropped.note_dropped(db, route, bad, lost, repeated)
            )

    def _is_counted(self, partition: Partition, offset: int) -> bool:
        return offset < self._counted.get((partition.topic_id, partition.number), 0)
