"""The receipts stage: sends what is in the ledger's outbox of receipts to Kafka.

A row leaves the outbox when Kafka has acknowledged it; killed before that, it is sent twice, which
changes nothing. Nobody waits for this stage: where receipts can't be sent, files are received all
the same, and the outbox stays within its bound.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import LedgerError, receipts
from kfd.daemon.ledger.receipts import Outbound
from kfd.daemon.stage import Stage
from kfd.kafka import client_properties, describe
from kfd.receipts import key_of, topic_of

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.1  # between two looks at the outbox: what ended meanwhile goes together
PAGE = 64  # records sent together
MAX_RECORDS = 10_000  # in the outbox; each has up to 256 receipts
TRIM_SECONDS = 10.0
DELIVERY_SECONDS = 10.0
LAST_SECONDS = 3.0  # the same, at the end
RETRY_SECONDS = 5.0  # before a topic that took nothing is tried again


class ReceiptSender(Stage):
    """Named ``receipts``. Everything happens in its own thread."""

    def __init__(self, context: Context) -> None:
        super().__init__("receipts")
        self._ledger = context.ledger
        self._topics = context.topics
        self._health = context.health
        self._properties: dict[str, Any] = client_properties(
            context.properties, self._on_trouble
        ) | {
            "acks": "all",
            "message.timeout.ms": str(int(DELIVERY_SECONDS * 1000)),
            "linger.ms": "0",
        }
        self._producer: Producer | None = None  # made when the first receipt is to be sent
        self._not_before: dict[str, float] = {}  # topic → monotonic
        self._trim_at = 0.0
        self._dropped = 0

    def run(self) -> None:
        seen = 0
        while not self.stopping.is_set():
            self.beat()
            if not self._send_all():
                seen = self._ledger.wait_for_change(seen, 1.0)
            self._trim()
            self.stopping.wait(LINGER_SECONDS)
        self._not_before.clear()
        self._send_all()  # of the files that were published last

    def _send_all(self) -> bool:
        """Send a page for each topic that takes receipts; whether there was one."""
        some = False
        for topic in receipts.topics(self._ledger.reader()):
            if self._topics.receipts(topic) is None:
                continue
            if time.monotonic() < self._not_before.get(topic, 0.0):
                continue
            page = receipts.waiting(self._ledger.reader(), topic, PAGE)
            if page:
                some = True
                self._send(topic, page)
        return some

    def _send(self, topic: str, page: Sequence[Outbound]) -> None:
        reason = self._produce(topic, page)
        self.beat()
        if reason:
            self._not_before[topic] = time.monotonic() + RETRY_SECONDS
            self._health.note(
                "receipts", topic, f"receipts about {topic} can't be sent: {reason}",
                "look at the brokers, and at what their ACLs allow kfd; it is tried again",
            )  # fmt: skip
            return
        reach("receipts.acknowledged")
        with suppress(LedgerError):  # then they are sent again
            self._ledger.write(lambda db: receipts.sent(db, topic, page[-1].id))
        self._health.clear("receipts", topic)

    def _produce(self, topic: str, page: Sequence[Outbound]) -> str:
        """Have Kafka acknowledge records; why not all were, empty if they were."""
        name = topic_of(topic)
        assert name is not None
        failures: list[str] = []
        acknowledged = 0

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            nonlocal acknowledged
            if error is None:
                acknowledged += 1
            else:
                failures.append(describe(error))

        try:
            producer = self._connected()
            for one in page:
                producer.produce(
                    name, value=one.record, key=key_of(one.sender), on_delivery=on_delivery
                )
            producer.flush(LAST_SECONDS if self.stopping.is_set() else DELIVERY_SECONDS + 1)
        except (KafkaException, BufferError) as error:
            self._producer = None  # it may have failed for good
            return str(error)
        if failures or acknowledged == len(page):
            return failures[0] if failures else ""
        return "no broker answers"

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._properties)
        return self._producer

    def _trim(self) -> None:
        """Keep the outbox within its bound."""
        now = time.monotonic()
        if now < self._trim_at:
            return
        self._trim_at = now + TRIM_SECONDS
        if receipts.count(self._ledger.reader()) <= MAX_RECORDS:
            return
        with suppress(LedgerError):
            dropped = self._ledger.write(lambda db: receipts.trim(db, MAX_RECORDS))
            self._dropped += dropped
            log.warning("receipts of %d transfers were dropped, unsent", dropped)
            self._health.note(
                "receipts", "outbox",
                f"receipts of {self._dropped} transfers were dropped since the start: they can't be"
                " sent",
                "see what keeps them from being sent; until then senders don't call files"
                " delivered",
            )  # fmt: skip

    def _on_trouble(self, error: KafkaError) -> None:
        log.debug("%s: %s", self.name, describe(error))
