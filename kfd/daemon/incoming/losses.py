"""Transfers that can't be put together here and have no row in the ledger, and those whose last
record came again: collected for a batch, so that their senders may be told."""

from __future__ import annotations

from collections.abc import Container

from kfd.daemon.incoming.partition import Partition
from kfd.daemon.ledger.dropped import Lost, Repeated
from kfd.wire import Header, Reason

# Of these the transfer itself may yet be, or was, put together.
_HARMLESS = (Reason.DUPLICATE, Reason.CONFLICTING_BEGIN)


class Losses:
    """What was lost or repeated since the ledger was told. Of one thread."""

    def __init__(self) -> None:
        self._lost: list[Lost] = []
        self._repeated: list[Repeated] = []

    def lose(self, topic: str, tid: bytes, reason: Reason) -> None:
        """A transfer can't come any more."""
        self._lost.append(Lost(topic, tid, reason))

    def dropped(
        self, partition: Partition, header: Header, reason: Reason, known: Container[bytes]
    ) -> None:
        """A record with this header was dropped: what that means for its transfer."""
        topic = partition.assembler.topic
        if reason is Reason.ORPHAN and header.end is not None:
            self.lose(topic, header.tid, Reason.HEAD_LOST)
        elif header.begin is not None and reason not in _HARMLESS:
            if header.tid not in partition.assembler:
                self.lose(topic, header.tid, reason)
        elif header.end is not None and header.tid in known:
            self._repeated.append(Repeated(partition.topic_id, partition.number, header.tid))

    def take(self) -> tuple[list[Lost], list[Repeated]]:
        """All of it; collecting begins anew."""
        taken = self._lost, self._repeated
        self._lost, self._repeated = [], []
        return taken
