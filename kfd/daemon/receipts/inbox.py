"""What was read of topics of receipts and is not in the ledger yet, by topic of the files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.receiptreading import Position
from kfd.daemon.receipts.reader import Letter
from kfd.receipts import decode
from kfd.wire import BadRecord


@dataclass(slots=True)
class Batch:
    """What is to go into the ledger in one transaction: it is read again, or all of it counts."""

    heard: list[Heard] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    positions: dict[int, Position] = field(default_factory=dict)  # by partition


class Inbox:
    """Of one thread. ``key`` is that of the records for this sender."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._batches: dict[str, Batch] = {}

    def put(self, topic: str, topic_id: str, letter: Letter) -> int:
        """Take a record about the files of ``topic`` from its topic of receipts, which has this
        id; how many receipts about them wait now."""
        batch = self._batches.setdefault(topic, Batch())
        batch.positions[letter.partition] = Position(
            *(letter.topic, topic_id, letter.partition, letter.offset + 1)
        )
        if letter.key in (None, self._key):  # else for another sender
            self._read(batch, letter)
        return len(batch.heard)

    def _read(self, batch: Batch, letter: Letter) -> None:
        try:
            told = decode(letter.value)
        except BadRecord as error:
            batch.bad[error.reason] += 1
            return
        ours = letter.key is not None
        batch.heard += [
            Heard(told.receiver, told.instance, receipt, ours) for receipt in told.receipts
        ]

    @property
    def empty(self) -> bool:
        """Whether nothing was read, not even for others."""
        return not self._batches

    @property
    def has_news(self) -> bool:
        """Whether something was read that the ledger is to draw conclusions from."""
        return any(batch.heard or batch.bad for batch in self._batches.values())

    def take(self) -> dict[str, Batch]:
        """All of it; it is the caller's now."""
        batches, self._batches = self._batches, {}
        return batches
