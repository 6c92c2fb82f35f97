"""The producers: the one Kafka producer of the daemon, and the pool of threads that feed it.

A producer thread takes a turn from the feed, waits for room in the budget, reads and hashes chunks
and hands them to librdkafka. Whether they arrived is the deliveries stage's business.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from kfd.daemon.crashpoint import reach
from kfd.daemon.health import Health
from kfd.daemon.outgoing.budget import Budget
from kfd.daemon.outgoing.feed import Feed
from kfd.daemon.outgoing.lanes import Turn
from kfd.daemon.outgoing.sending import INTERRUPTED, Failure, Record, Sending
from kfd.daemon.stage import Stage
from kfd.kafka import RECORD_OVERHEAD, Topic, client_properties, describe, refused_properties

log = logging.getLogger(__name__)

_PERMANENT = {
    KafkaError.MSG_SIZE_TOO_LARGE: "lower chunk_size, or raise max.message.bytes on the topic",
    KafkaError.RECORD_LIST_TOO_LARGE: "lower chunk_size, or raise max.message.bytes on the topic",
    KafkaError.INVALID_CONFIG: "look at the broker's log: it finds the topic's settings invalid",
}
_CLOCK_FIX = (
    "set this host's clock right, or message.timestamp.type=LogAppendTime on the topic; it is"
    " tried again every second"
)
# Brokers refuse records from a clock that is far ahead, and the whole batch with them.
_FOR_NOW = {KafkaError.INVALID_TIMESTAMP: _CLOCK_FIX, KafkaError.INVALID_RECORD: _CLOCK_FIX}
FIT_SECONDS = 5.0
REPLACE_SECONDS = 2.0  # before a producer that failed for good is replaced
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)  # noqa: SLF001 - public names
_BATCH_SIZE = 1_000_000  # bytes; librdkafka's default
_ABORT_MARGIN = 1024  # records that librdkafka's queue takes beyond the budget: aborts

Report = Callable[[Sending, Failure | None, int | None, int], None]
"""Hears of one record's fate: why it failed, else its offset; and its size in bytes."""


def classify(error: KafkaError) -> Failure:
    """What a delivery error means for its transfer: its end, or a later resume."""
    fix = _PERMANENT.get(error.code())
    if error.code() in _PURGED:
        return INTERRUPTED
    if fix is None:
        reason = f"Kafka does not take it now: {describe(error)}"
        return Failure(reason=reason, fix=_FOR_NOW.get(error.code(), ""))
    return Failure("failed", f"Kafka refuses it: {describe(error)}", fix)


def _reported(report: Report, sending: Sending, error: KafkaError | None, message: Message) -> None:
    failure = None if error is None else classify(error)
    report(sending, failure, message.offset(), len(message))


def _serve_quietly(producer: Producer) -> None:
    with suppress(KafkaException):  # it failed for good: that is why it was retired
        producer.poll(0)


def _largest_record(chunk_size: int) -> int:
    return max(chunk_size + RECORD_OVERHEAD, 1_000_000)


class RecordSink:
    """librdkafka's producer: idempotent, ``acks=all``, without a timeout of its own.

    ``produce`` is called by producer threads, ``abort`` by any, the rest by the deliveries thread,
    in which all reports come.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        budget: Budget,
        chunk_size: int,
        health: Health,
        on_trouble: Callable[[], None],
    ) -> None:
        """``on_trouble`` is called at errors that concern no record.

        Raises :class:`RefusedPropertyError`.
        """
        self._health = health
        self._on_trouble = on_trouble
        self._replace_at: float | None = None  # monotonic; None: the producer is well
        self._batch_size = int(properties.get("batch.size", _BATCH_SIZE))  # bytes
        self._largest_record = _largest_record(chunk_size)  # bytes
        self._fitted = threading.Event()  # unset: other sizes of records or batches wait for use
        self._fitted.set()
        self._retired: list[Producer] = []  # until their last report is in
        # Guards _producer (none is produced to once it is retired), the sizes, and _fitted.
        self._lock = threading.Lock()
        self._properties: dict[str, Any] = client_properties(properties, self._on_error) | {
            "acks": "all",
            "enable.idempotence": "true",
            "message.timeout.ms": "0",
            "queue.buffering.max.messages": str(budget.max_records + _ABORT_MARGIN),
            "queue.buffering.max.kbytes": str(
                (budget.max_size + (budget.max_records + _ABORT_MARGIN) * RECORD_OVERHEAD) // 1024
            ),
        }
        self._producer = self._connect()

    def fit(self, topic: Topic) -> None:
        """Make batches that ``topic`` takes: its limit is on a whole batch.

        Called by the topic watch before the topic is used; waits for the deliveries thread, which
        replaces the producer.
        """
        if topic.max_record is not None and topic.max_record < self._batch_size:
            with self._lock:
                self._batch_size = topic.max_record
                self._fitted.clear()
            self._fitted.wait(FIT_SECONDS)

    def allow(self, chunk_size: int) -> None:
        """Take records of such chunks from now on. Any thread; waits for the deliveries thread,
        which replaces the producer where it takes smaller ones."""
        largest = _largest_record(chunk_size)
        if largest > self._largest_record:
            with self._lock:
                self._largest_record = largest
                self._fitted.clear()
            self._fitted.wait(FIT_SECONDS)

    def produce(self, sending: Sending, record: Record, on_delivery: Report) -> None:
        """Hand over one record; ``on_delivery`` hears its fate. The value is copied.

        Raises :class:`KafkaException` or :class:`BufferError`; then there will be no report.
        """
        self._hand_over(sending, record, partial(_reported, on_delivery, sending))

    def abort(self, sending: Sending) -> None:
        """Tell receivers to drop a transfer's partial. Best effort: they expire it otherwise."""
        record = sending.abort_record()
        if record is not None:
            self.produce_unheard(sending, record)

    def produce_unheard(self, sending: Sending, record: Record) -> None:
        """Hand over a record of whose fate nobody hears; it is no part of the transfer."""
        try:
            self._hand_over(sending, record, None)
        except (KafkaException, BufferError) as error:
            log.debug("a record beside %s not sent: %s", sending.row.tid.hex(), error)

    def _hand_over(
        self,
        sending: Sending,
        record: Record,
        on_delivery: Callable[[KafkaError | None, Message], None] | None,
    ) -> None:
        key, headers, value = record
        with self._lock:
            self._producer.produce(
                sending.row.topic,
                value=value,
                key=key,
                partition=sending.partition,
                headers=headers,
                on_delivery=on_delivery,
            )

    def poll(self, timeout: float) -> None:
        """Serve delivery reports, waiting up to ``timeout`` seconds for the first."""
        if not self._fitted.is_set():
            self._refit()
        for retired in self._retired.copy():
            _serve_quietly(retired)
            if len(retired) == 0:
                self._retired.remove(retired)
        if self._replace_at is None:
            self._serve(timeout)
        elif time.monotonic() < self._replace_at:
            time.sleep(timeout)  # a producer that failed for good reports nothing any more
        else:
            self._replace()

    def recovered(self) -> None:
        """Records arrive again."""
        self._health.clear("kafka", "producer")

    def give_up(self, timeout: float) -> None:
        """Report what is still in flight as not delivered; it is resumed at the next start."""
        self._producer.purge()
        with suppress(KafkaException):
            self._producer.flush(timeout)

    def _serve(self, timeout: float) -> None:
        try:
            self._producer.poll(timeout)
        except KafkaException as error:  # a fatal error is raised here, and told nowhere else
            reason = describe(error.args[0])
            self._health.report(
                "kafka", "producer", f"the producer can't go on: {reason}",
                "look at bootstrap.servers; it must name brokers, and these allow idempotence",
            )  # fmt: skip
            self._replace_at = time.monotonic() + REPLACE_SECONDS

    def _refit(self) -> None:
        """Use the sizes that are wanted now."""
        wanted = self._sizes()
        self._replace()
        with self._lock:
            if self._sizes() == wanted:  # else once more, at the next poll
                self._fitted.set()

    def _sizes(self) -> dict[str, str]:
        return {
            "batch.size": str(self._batch_size),
            "message.max.bytes": str(self._largest_record),
        }

    def _connect(self) -> Producer:
        try:
            return Producer(self._properties | self._sizes())
        except (KafkaException, TypeError, ValueError) as error:
            raise refused_properties(error, self._properties) from error

    def _replace(self) -> None:
        """A new producer; what the old one holds is reported as not delivered, and resumed.

        Chunks never go through two producers at once: one could overtake the other.
        """
        producer = self._connect()
        with self._lock:
            self._producer, old = producer, self._producer
        old.purge()
        self._retired.append(old)
        self._replace_at = None

    def _on_error(self, error: KafkaError) -> None:
        log.debug("producer: %s", describe(error))
        self._on_trouble()


class ProducerThread(Stage):
    """One of the pool: takes turns until it is stopped. Named ``producer-N``."""

    def __init__(
        self,
        number: int,
        feed: Feed,
        sink: RecordSink,
        budget: Budget,
        *,
        on_delivery: Report,
        leave: Callable[[Iterable[Sending]], None],
    ) -> None:
        """``on_delivery`` and ``leave`` are the deliveries stage's."""
        super().__init__(f"producer-{number}")
        self._feed = feed
        self._sink = sink
        self._budget = budget
        self._on_delivery = on_delivery
        self._leave = leave

    def run(self) -> None:
        while not self.stopping.is_set():
            self.beat()
            turn = self._feed.take(timeout=1.0)
            if turn is not None:
                self._serve(turn)

    def _serve(self, turn: Turn) -> None:
        if self._budget.acquire(turn.records, turn.size, self.beat):
            records, size = turn.records, turn.size
            for sending in turn.sendings:
                sent_records, sent_size = self._send(sending, turn.max_records)
                records -= sent_records
                size -= sent_size
            self._budget.release(records, size)  # what was granted and not needed
            turn.unused = size
        leaving = {s for s in turn.sendings if s.read_to_end or s.failure is not None}
        self._leave(leaving)
        self._feed.give_back(turn, [s for s in turn.sendings if s not in leaving])

    def _send(self, sending: Sending, max_records: int) -> tuple[int, int]:
        """Produce the next chunks of one file; records and bytes handed over."""
        records = size = 0
        if sending.behind and not sending.catch_up(max(1, max_records)):
            return records, size  # it goes on in its next turn, or has failed
        while records < max_records and not sending.read_to_end and sending.failure is None:
            record = sending.read()
            if record is None:
                break
            if sending.next_index == 1 and sending.repeats_first:
                self._sink.produce_unheard(sending, record)
            try:
                self._sink.produce(sending, record, self._on_delivery)
            except KafkaException as error:
                sending.fail(classify(error.args[0]))
                break
            except BufferError:  # librdkafka's queue is full of aborts
                sending.fail(INTERRUPTED)
                break
            reach("sender.produced")
            sending.produced += 1
            records += 1
            size += len(record[-1])
        if sending.read_to_end or sending.failure is not None:
            reach("sender.read-to-end")
            sending.close()
        return records, size
