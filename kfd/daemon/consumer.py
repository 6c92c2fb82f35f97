"""The consumers: members of a route's group, each a thread with a client and a receiver of its own.

This module polls, and does what a client asks of its thread; what is committed and where reading
begins is in ``commits.py``, what becomes of the records in ``receiver.py``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kfd.assembly import OpenTransfer
from kfd.daemon.beginnings import Beginnings
from kfd.daemon.commits import Commits, of_topic, watermarks
from kfd.daemon.context import Context
from kfd.daemon.destination import PartKey
from kfd.daemon.membership import Assignment, Membership
from kfd.daemon.partials import DiskError
from kfd.daemon.receiver import Receiver, Record
from kfd.daemon.stage import Stage
from kfd.kafka import describe, raising, refused_properties
from kfd.units import human_size

log = logging.getLogger(__name__)

BATCH = 256  # records
POLL_SECONDS = 0.2
TICK_SECONDS = 1.0  # between looks at what is idle
RETRY_SECONDS = 2.0
RECOVERED_SECONDS = 3.0  # without an error of the client
HASHED_AT_ONCE = 64 << 20  # bytes of partials that are read again between two polls


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
        self.held: frozenset[PartKey] = frozenset()  # likewise: their partials
        self._receiver = receiver
        self._membership = membership
        self._beginnings = beginnings
        self._properties = context.properties
        self._topics = context.topics
        self._health = context.health
        self._rates = context.rates
        self._commits = Commits(name, membership, beginnings, "", made_anew=False)
        self._ticked_at = 0.0  # monotonic
        self._tried_at = 0.0  # monotonic; when deferred files were last tried
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
            known = self._commits.topic_id
            made_anew = known not in ("", topic.topic_id)
            if made_anew:
                log.warning("%s: topic %s was made again", self.name, topic.name)
            if known != topic.topic_id:
                self._commits = Commits(
                    self.name, self._membership, self._beginnings, topic.topic_id, made_anew
                )
            self._take_part()

    def _take_part(self) -> None:
        """Be a member of the group until stopped, the topic is another one, or it is doubtful."""
        consumer = self._connect()
        self._assignment.joins()
        try:
            consumer.subscribe(
                [self._membership.topic],
                on_assign=raising(self._on_assign),
                on_revoke=raising(self._on_revoke),
                on_lost=raising(self._on_lost),
            )
            while not self.stopping.is_set() and self._same_topic():
                self._step(consumer)
                if self._assignment.stood_still():
                    log.warning("%s: this process stood still: joining its group anew", self.name)
                    return
            self._save(consumer)
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
            return Consumer(
                self._membership.properties(self._properties, self._on_trouble, self._on_commit)
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refused_properties(error, self._properties) from error

    def _same_topic(self) -> bool:
        topic = self._topics.readable(self._membership.topic)
        return topic is None or topic.topic_id == self._commits.topic_id

    def _step(self, consumer: Consumer) -> None:
        messages = self._poll(consumer)
        records = [r for m in messages if (r := self._record(m)) is not None]
        self.beat()
        try:
            self._work(consumer, records)
        except DiskError as error:
            self._wait_for_disk(consumer, error)
        for message in messages:
            failure = message.error()
            if failure is not None:
                self._on_error(consumer, failure, message)
        if time.monotonic() - self._error_at > RECOVERED_SECONDS:
            self._health.clear(self._membership.route, self.name)
        self._note_lag(consumer)
        self._commit(consumer)

    def _work(self, consumer: Consumer, records: Sequence[Record]) -> None:
        """Everything that concerns files."""
        if self._receiver.catch_up(HASHED_AT_ONCE):
            self._catch_up(consumer)
            return  # the records come again
        if records:
            self._receive(records)
        self._tick()
        self._receiver.checkpoint()
        self._move(consumer, self._receiver.take_rewinds())

    def _receive(self, records: Sequence[Record]) -> None:
        self.records += len(records)
        self._receiver.receive(records)
        size = sum(len(record.value or b"") for record in records)
        self._rates.add(self._membership.route, self._membership.topic, size)
        self.receiving = tuple(self._receiver.open_transfers())
        self.held = frozenset(self._receiver.held())

    def _catch_up(self, consumer: Consumer) -> None:
        """Read partials of an earlier life for their digests, and go on polling meanwhile."""
        self._pause(consumer)
        while not self.stopping.is_set() and self._receiver.catch_up(HASHED_AT_ONCE):
            self._poll_paused(consumer, 0)
        self._move(consumer, self._receiver.positions())

    def _tick(self) -> None:
        """Let time pass for what is idle, and try again what waits for space."""
        now = time.monotonic()
        if now - self._ticked_at < TICK_SECONDS:
            return
        # after a pause of the thread, time has not passed for what it could not read
        seconds = min(now - self._ticked_at, 2 * TICK_SECONDS)
        self._ticked_at = now
        at_end = [number for number, behind in self._lag.items() if behind == 0]
        self._receiver.pass_time(seconds, at_end)
        if now - self._tried_at >= RETRY_SECONDS:
            self._tried_at = now
            self._receiver.try_deferred()
            self._report_deferred()

    def _report_deferred(self) -> None:
        route, key = self._membership.route, f"space {self.name}"
        sizes = self._receiver.deferred()
        if not sizes:
            self._health.clear(route, key)
            return
        files = "1 file waits" if len(sizes) == 1 else f"{len(sizes)} files wait"
        self._health.report(
            route, key,
            f"{files} for space: {human_size(sum(sizes))}, the smallest {human_size(min(sizes))}",
            "free space on the download's disk, or lower min_free",
        )  # fmt: skip

    def _poll(self, consumer: Consumer) -> list[Message]:
        first = self._assignment.polled(consumer.poll(POLL_SECONDS))
        if first is None:
            return []
        # consume() waits for its whole timeout unless it gets all: ask for what is there already
        return [first, *consumer.consume(BATCH - 1, 0)]

    def _record(self, message: Message) -> Record | None:
        fetched: Any = message  # the client's types allow what Kafka doesn't
        partition: int = fetched.partition()
        if message.error() is not None:
            return None
        if partition not in self._assignment.partitions:  # fetched before it was given up
            return None
        return Record(partition, fetched.offset(), _headers(fetched), fetched.value())

    def _on_error(self, consumer: Consumer, error: KafkaError, message: Any) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            if message.partition() in self._assignment.partitions:
                self._reset(consumer, message.partition())
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
        low, high = watermarks(consumer, of_topic(self._membership, partition))
        position = self._receiver.positions()[partition]
        log.warning(
            "%s: %s[%d] has offsets %d to %d, not %d: reading from %d",
            *(self._membership.route, self._membership.topic, partition, low, high, position, low),
        )
        self._receiver.reset(partition, low, high)
        self._move(consumer, {partition: low})

    def _move(self, consumer: Consumer, offsets: Mapping[int, int]) -> None:
        """Read partitions on from other offsets. (After a reset error ``seek`` fails.)"""
        if not offsets:
            return
        if self._membership.whole:
            offsets = self._receiver.positions() | dict(offsets)
        moved = [of_topic(self._membership, *one) for one in offsets.items()]
        if not self._membership.whole:
            consumer.incremental_unassign(moved)
        self._assign(consumer, moved)
        consumer.resume(moved)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Let the client read these: all that are ours where the group deals out the whole."""
        if self._membership.whole:
            consumer.assign(partitions)
        else:
            consumer.incremental_assign(partitions)

    def _wait_for_disk(self, consumer: Consumer, error: DiskError) -> None:
        """Pause until the disk takes files again; polling goes on, so the group keeps us."""
        route = self._membership.route
        self._pause(consumer)
        while not self.stopping.is_set():
            self._health.report(route, "disk", str(error), error.fix)
            until = time.monotonic() + RETRY_SECONDS
            while time.monotonic() < until and not self.stopping.is_set():
                self._poll_paused(consumer, POLL_SECONDS)
            try:
                self._receiver.resume()
                self._receiver.checkpoint()
            except DiskError as again:
                error = again
            else:
                self._receiver.take_rewinds()  # the positions are these already
                self._move(consumer, self._receiver.positions())
                self._health.clear(route, "disk")
                return

    def _pause(self, consumer: Consumer) -> None:
        consumer.pause([of_topic(self._membership, one) for one in self._assignment.partitions])

    def _poll_paused(self, consumer: Consumer, seconds: float) -> None:
        """Serve rebalances. What comes of partitions that are new is read again afterwards."""
        message = self._assignment.polled(consumer.poll(seconds))
        if message is not None and (failure := message.error()) and _is_fatal(failure):
            raise KafkaException(failure)
        self.beat()

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        starts = []
        for one in self._commits.inherited(consumer, partitions):
            start = self._receiver.take(
                one.partition, self._commits.topic_id, one.offset, one.progress
            )
            self._assignment.partitions.add(one.partition)
            starts.append(of_topic(self._membership, one.partition, start))
            if start != one.offset:
                log.info("%s: partition %d goes on at %d", self.name, one.partition, start)
        self._assign(consumer, starts)
        log.info("%s: reads partitions %s", self.name, sorted(self._assignment.partitions))

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._save(consumer)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up([one.partition for one in partitions])
        if self._membership.whole:
            consumer.unassign()
        else:
            consumer.incremental_unassign(list(partitions))

    def _give_up(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            self._assignment.partitions.discard(number)
            self._commits.forget(number)
            self._lag.pop(number, None)
        try:
            self._receiver.drop(partitions)
        except DiskError as error:
            log.warning("%s: %s", self.name, error)
            self._receiver.forget(partitions)
        self.receiving = tuple(self._receiver.open_transfers())
        self.held = frozenset(self._receiver.held())

    def _save(self, consumer: Consumer) -> None:
        """Before partitions are left: make durable what is worth it, and commit."""
        try:
            self._receiver.checkpoint(leaving=True)
        except DiskError as error:
            log.warning("%s: %s", self.name, error)
        self._commit(consumer, wait=True)

    def _commit(self, consumer: Consumer, *, wait: bool = False) -> None:
        if self._same_topic():
            self._commits.commit(consumer, self._receiver.progress(), wait=wait)

    def _note_lag(self, consumer: Consumer) -> None:
        for number, position in self._receiver.positions().items():
            low, high = consumer.get_watermark_offsets(
                of_topic(self._membership, number), cached=True
            )
            if high >= 0:
                self._lag[number] = max(0, high - max(low, position))

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        self._commits.on_commit(error, partitions)

    def _on_trouble(self, error: KafkaError) -> None:
        log.debug("%s: %s", self.name, describe(error))
        self._topics.look_soon()


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
