"""Reads topics of receipts from where the ledger says, all their partitions, in no group.

The positions are kfd's own: they are noted with what was read, in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from kfd.kafka import describe, groupless_consumer

log = logging.getLogger(__name__)

BATCH = 64  # records; each has up to 256 receipts


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of a topic of receipts."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class ReceiptReader:
    """Used in one thread. Its consumer is made when there is something to read."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self.trouble = ""  # the last error, until something is read again
        self._properties = properties
        self._consumer: Consumer | None = None

    def assign(self, starts: Mapping[tuple[str, int], int | None]) -> None:
        """Read these (topic, partition) and no others; from the oldest record where None."""
        if self._consumer is None:
            if not starts:
                return
            self._consumer = self._connect()
        self._consumer.assign(
            [
                TopicPartition(topic, partition, OFFSET_BEGINNING if offset is None else offset)
                for (topic, partition), offset in starts.items()
            ]
        )

    def poll(self, timeout: float) -> list[Letter] | None:
        """What has come, waiting up to ``timeout`` seconds for the first; None if nothing is
        assigned."""
        if self._consumer is None:
            return None
        first = self._consumer.poll(timeout)
        messages = [] if first is None else [first, *self._consumer.consume(BATCH - 1, 0)]
        return [letter for message in messages if (letter := self._letter(message)) is not None]

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _letter(self, message: Any) -> Letter | None:
        error = message.error()
        if error is not None:
            self.trouble = describe(error)
            log.debug("receipts: %s", self.trouble)
            return None
        self.trouble = ""
        return Letter(
            *(message.topic(), message.partition(), message.offset(), message.key()),
            message.value(),
        )

    def _connect(self) -> Consumer:
        own = {
            "auto.offset.reset": "earliest",  # what retention has removed can't be read
            "queued.max.messages.kbytes": "1024",
            "fetch.max.bytes": str(1 << 20),
        }
        return groupless_consumer(self._properties, self._on_trouble, own)

    def _on_trouble(self, error: KafkaError) -> None:
        log.debug("receipts: %s", describe(error))
