"""The consumers: members of a route's group, each a thread with a client and a receiver of its own.

Offsets are kfd's own: the client commits nothing by itself, starts nowhere by itself, and what is
committed is what the receiver calls safe. A commit that is lost only repeats work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kfd.assembly import OpenTransfer
from kfd.daemon.beginnings import Beginnings
from kfd.daemon.context import Context
from kfd.daemon.partials import DiskError
from kfd.daemon.receiver import Receiver, Record
from kfd.daemon.stage import Stage
from kfd.kafka import client_properties, describe, refused_properties

log = logging.getLogger(__name__)

BATCH = 256  # records
POLL_SECONDS = 0.2
COMMIT_SECONDS = 0.5
RETRY_SECONDS = 2.0
RECOVERED_SECONDS = 3.0  # without an error of the client
_COMMITTED_SECONDS = 10.0  # to be told the group's offsets


@dataclass(slots=True)
class Assignment:
    """The partitions that are a thread's, as of now; for those who may act only on them.

    One that hasn't polled for ``max_poll_seconds`` has been thrown out of its group, whether it
    knows it or not: it has none.
    """

    max_poll_seconds: float
    partitions: set[int] = field(default_factory=set)
    polled_at: float = 0.0  # monotonic

    def __contains__(self, partition: object) -> bool:
        fresh = time.monotonic() - self.polled_at < self.max_poll_seconds
        return fresh and partition in self.partitions

    def polled(self, message: Message | None) -> Message | None:
        """Note that the client was polled; gives what it gave."""
        self.polled_at = time.monotonic()
        return message


@dataclass(frozen=True, slots=True)
class Membership:
    """How a consumer thread takes part in its group."""

    route: str
    topic: str
    group: str
    member: str  # unique and stable: origin, ledger, route and thread
    start: str  # earliest or latest; where a group that never committed begins


class ConsumerThread(Stage):
    """One of a route's pool, named ``consumer-ROUTE-N``. All but :meth:`check` and
    :meth:`lag` in its own thread."""

    def __init__(
        self,
        name: str,
        membership: Membership,
        receiver: Receiver,
        assignment: Assignment,
        beginnings: Beginnings,
        context: Context,
    ) -> None:
        """``assignment`` is kept up to date here; shared with those who may act only on it."""
        super().__init__(name)
        self.records = 0  # read since the start; written by this thread only
        self.receiving: tuple[OpenTransfer, ...] = ()  # a snapshot, for others to read
        self._receiver = receiver
        self._membership = membership
        self._beginnings = beginnings
        self._properties = context.properties
        self._topics = context.topics
        self._health = context.health
        self._rates = context.rates
        self._topic_id = ""
        self._committed: dict[int, int] = {}
        # After the topic was made again, what the group has committed may be of the old one, but
        # for the partitions that this thread has committed since.
        self._distrusts_commits = False
        self._trusted: set[int] = set()
        self._commit_due = 0.0
        self._error_at = 0.0  # monotonic
        self._lag: dict[int, int] = {}
        self._assignment = assignment

    def lag(self) -> int | None:
        """Records that are in the topic and not read, as far as it was seen. Any thread."""
        lag = self._lag.copy()
        return sum(lag.values()) if lag else None

    def run(self) -> None:
        while not self.stopping.is_set():
            self.beat()
            topic = self._topics.readable(self._membership.topic)
            if topic is None:
                self.stopping.wait(POLL_SECONDS)
                continue
            if self._topic_id not in ("", topic.topic_id):
                log.warning("%s: topic %s was made again", self.name, topic.name)
                self._distrusts_commits = True
            self._topic_id = topic.topic_id
            self._trusted.clear()
            self._take_part()

    def _take_part(self) -> None:
        """Be a member of the group until stopped, or the topic is another one."""
        consumer = self._connect()
        try:
            consumer.subscribe(
                [self._membership.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self.stopping.is_set() and self._same_topic():
                self._step(consumer)
            self._commit(consumer, wait=True)
        except (KafkaException, DiskError) as error:
            reason = error.what if isinstance(error, DiskError) else describe(error.args[0])
            self._report(f"it stopped and is tried again: {reason}")
            self.stopping.wait(RETRY_SECONDS)
        finally:
            self._give_up(list(self._assignment.partitions))
            consumer.close()

    def check(self) -> None:
        """Raise :class:`ConfigError` for properties that librdkafka refuses. Before the start."""
        self._connect().close()

    def _connect(self) -> Consumer:
        try:
            return Consumer(self._client_properties())
        except (KafkaException, TypeError, ValueError) as error:
            raise refused_properties(error, self._properties) from error

    def _same_topic(self) -> bool:
        topic = self._topics.readable(self._membership.topic)
        return topic is None or topic.topic_id == self._topic_id

    def _step(self, consumer: Consumer) -> None:
        messages = self._poll(consumer)
        records = [r for m in messages if (r := self._record(consumer, m)) is not None]
        self.beat()
        if records:
            self.records += len(records)
            try:
                self._receiver.receive(records)
            except DiskError as error:
                self._wait_for_disk(consumer, error)
            size = sum(len(record.value or b"") for record in records)
            self._rates.add(self._membership.route, self._membership.topic, size)
            self.receiving = tuple(self._receiver.open_transfers())
        if time.monotonic() - self._error_at > RECOVERED_SECONDS:
            self._health.clear(self._membership.route, self.name)
        self._note_lag(consumer)
        self._commit(consumer)

    def _poll(self, consumer: Consumer) -> list[Message]:
        first = self._assignment.polled(consumer.poll(POLL_SECONDS))
        if first is None:
            return []
        # consume() waits for its whole timeout unless it gets all: ask for what is there already
        return [first, *consumer.consume(BATCH - 1, 0)]

    def _record(self, consumer: Consumer, message: Message) -> Record | None:
        error = message.error()
        fetched: Any = message  # the client's types allow what Kafka doesn't
        partition: int = fetched.partition()
        if error is not None:
            self._on_error(consumer, error, partition)
            return None
        if partition not in self._assignment.partitions:  # fetched before it was given up
            return None
        return Record(partition, fetched.offset(), _headers(fetched), fetched.value())

    def _on_error(self, consumer: Consumer, error: KafkaError, partition: int) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            self._reset(consumer, partition)
        elif _is_fatal(error):
            raise KafkaException(error)
        else:
            self._topics.look_soon()
            self._report(describe(error))

    def _report(self, reason: str) -> None:
        """Show what keeps this thread from reading, until it has gone well for a while."""
        self._error_at = time.monotonic()
        self._health.report(
            self._membership.route,
            self.name,
            f"reading {self._membership.topic}: {reason}",
            "look at the brokers' logs, at their ACLs for kfd, and for another daemon of this name",
        )

    def _reset(self, consumer: Consumer, partition: int) -> None:
        """The topic no longer has our position: go on with the oldest that it has, and say so."""
        low, high = consumer.get_watermark_offsets(self._partition(partition), _COMMITTED_SECONDS)
        position = self._receiver.positions().get(partition, 0)
        log.warning(
            "%s: %s[%d] has offsets %d to %d, not %d: reading from %d",
            *(self._membership.route, self._membership.topic, partition, low, high, position, low),
        )
        self._receiver.drop([partition])
        self._move(consumer, {partition: low})

    def _move(self, consumer: Consumer, offsets: Mapping[int, int]) -> None:
        """Read partitions on from other offsets. (After a reset error ``seek`` fails.)"""
        moved = [self._partition(number, offset) for number, offset in offsets.items()]
        consumer.incremental_unassign(moved)
        consumer.incremental_assign(moved)
        consumer.resume(moved)
        for number, offset in offsets.items():
            self._receiver.take(number, self._topic_id, offset)

    def _wait_for_disk(self, consumer: Consumer, error: DiskError) -> None:
        """Pause until the disk takes files again; polling goes on, so the group keeps us."""
        route = self._membership.route
        paused = [self._partition(number) for number in self._assignment.partitions]
        consumer.pause(paused)
        while not self.stopping.is_set():
            self._health.report(route, "disk", str(error), error.fix)
            until = time.monotonic() + RETRY_SECONDS
            while time.monotonic() < until and not self.stopping.is_set():
                # paused: serves rebalances, gives no records
                message = self._assignment.polled(consumer.poll(POLL_SECONDS))
                if message is not None and (failure := message.error()) and _is_fatal(failure):
                    raise KafkaException(failure)
                self.beat()
            try:
                self._move(consumer, self._receiver.start_over())
            except DiskError as again:
                error = again
            else:
                self._health.clear(route, "disk")
                return

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        committed = consumer.committed(list(partitions), _COMMITTED_SECONDS)
        first_time = self._beginnings.first_time(self._topic_id)
        for one in committed:
            if one.error is not None:
                raise KafkaException(one.error)
            if self._distrusts_commits and one.partition not in self._trusted:
                one.offset, _ = consumer.get_watermark_offsets(one, _COMMITTED_SECONDS)
            elif one.offset < 0:
                low, high = consumer.get_watermark_offsets(one, _COMMITTED_SECONDS)
                # later, a missing commit is of a new partition, or was forgotten: skip nothing
                latest = self._membership.start == "latest" and first_time
                one.offset = high if latest else low
            self._receiver.take(one.partition, self._topic_id, one.offset)
            self._assignment.partitions.add(one.partition)
        consumer.incremental_assign(committed)
        log.info("%s: reads partitions %s", self.name, sorted(self._assignment.partitions))

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._commit(consumer, wait=True)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up([one.partition for one in partitions])
        consumer.incremental_unassign(list(partitions))

    def _give_up(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            self._assignment.partitions.discard(number)
            self._committed.pop(number, None)
            self._lag.pop(number, None)
        try:
            self._receiver.drop(partitions)
        except DiskError as error:
            log.warning("%s: %s", self.name, error)
            self._receiver.forget(partitions)
        self.receiving = tuple(self._receiver.open_transfers())

    def _commit(self, consumer: Consumer, *, wait: bool = False) -> None:
        """Commit what is safe and new; with ``wait``, and at once, before partitions are left."""
        now = time.monotonic()
        if (not wait and now < self._commit_due) or not self._same_topic():
            return
        self._commit_due = now + COMMIT_SECONDS
        safe = self._receiver.safe_offsets()
        new = {n: offset for n, offset in safe.items() if self._committed.get(n) != offset}
        if not new:
            return
        offsets = [self._partition(number, offset) for number, offset in new.items()]
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("%s: commit: %s", self.name, describe(error.args[0]))
        else:
            self._committed.update(new)
            self._trusted.update(new)

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        if error is not None:
            for one in partitions:
                self._committed.pop(one.partition, None)  # it is committed again

    def _note_lag(self, consumer: Consumer) -> None:
        for number, position in self._receiver.positions().items():
            low, high = consumer.get_watermark_offsets(self._partition(number), cached=True)
            if high >= 0:
                self._lag[number] = max(0, high - max(low, position))

    def _partition(self, number: int, offset: int | None = None) -> TopicPartition:
        if offset is None:
            return TopicPartition(self._membership.topic, number)
        return TopicPartition(self._membership.topic, number, offset)

    def _on_trouble(self, error: KafkaError) -> None:
        log.debug("%s: %s", self.name, describe(error))
        self._topics.look_soon()

    def _client_properties(self) -> dict[str, Any]:
        shared = client_properties(self._properties, self._on_trouble) | {
            "group.id": self._membership.group,
            "enable.auto.commit": "false",
            "enable.auto.offset.store": "false",
            "auto.offset.reset": "error",
            "on_commit": self._on_commit,
        }
        defaults = {
            "queued.max.messages.kbytes": "4096",
            "fetch.max.bytes": str(4 << 20),
            # with so short a queue, the default of a second would leave the thread idle
            "fetch.queue.backoff.ms": "10",
        }
        if self._properties.get("group.protocol") != "consumer":
            # there static membership is fatal after a kill; here it brings partitions back at once
            defaults |= {
                "session.timeout.ms": "10000",
                "heartbeat.interval.ms": "1000",  # each round of a rebalance waits for one
                "group.instance.id": self._membership.member,
                "partition.assignment.strategy": "cooperative-sticky",
            }
        return defaults | shared


def _is_fatal(error: KafkaError) -> bool:
    """Whether the client can't go on. As a message it has the code, but not the flag."""
    return bool(error.fatal() or error.code() == KafkaError._FATAL)  # noqa: SLF001 - public name


def _headers(message: Any) -> Sequence[tuple[str, bytes | None]] | None:
    """The headers of a record; none where the client can't show them, so that it is foreign.

    confluent-kafka raises :class:`SystemError` for a header whose name isn't UTF-8.
    """
    try:
        headers: Sequence[tuple[str, bytes | None]] | None = message.headers()
    except (SystemError, UnicodeDecodeError):
        return None
    return headers
