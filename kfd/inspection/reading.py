"""Reads a topic from any offset, without a group and without a trace: Kafka's client of inspection.

Reading ends where the partitions ended when it began, or goes on for ever.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from kfd.errors import KfdError, UsageError
from kfd.inspection.record import Record
from kfd.kafka import (
    BrokerAwayError,
    ClusterView,
    TopicRefusedError,
    describe,
    groupless_consumer,
    headers_of,
)

_BATCH: Final = 500  # records
_POLL_SECONDS: Final = 0.2
_PROPERTIES: Final = {
    "enable.partition.eof": "true",
    "auto.offset.reset": "earliest",  # where the topic has lost what was to be read next
    "queued.max.messages.kbytes": "16384",  # of what was fetched ahead
    "fetch.queue.backoff.ms": "10",  # else reading would rest a second each time that this is full
}
_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_FINAL: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - likewise
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin in each partition: at an offset, or at the first record since a time.

    Neither: at the oldest record, or with ``latest`` behind the newest.
    """

    offset: int | None = None
    since: float | None = None  # seconds since the epoch
    latest: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """What a partition has now (``low`` to ``high``, exclusive), and where to ``start``."""

    partition: int
    low: int
    high: int
    start: int


class TopicReader:
    """Reads one topic, in one thread. To be closed.

    Where no broker answers for ``timeout`` seconds, :class:`BrokerAwayError` is raised.
    """

    def __init__(self, properties: Mapping[str, str], topic: str, timeout: float) -> None:
        """Raises :class:`KfdError` for properties that librdkafka refuses."""
        self.topic = topic
        self.topic_id = ""  # known with its spans
        self._timeout = timeout
        self._trouble = ""
        self._cluster = ClusterView(properties, timeout)
        self._client = groupless_consumer(properties, self._on_error, _PROPERTIES)
        self._ends: dict[int, int] = {}  # of partitions that aren't read to their end yet

    def close(self) -> None:
        """Let go of the brokers."""
        self._client.close()

    def spans(self, start: Start, wanted: Collection[int] = ()) -> list[Span]:
        """The partitions to read: those ``wanted``, or all."""
        numbers = self._partitions(wanted)
        marks = self._cluster.watermarks((self.topic, number) for number in numbers)
        since = {} if start.since is None else self._offsets_since(start.since, numbers)
        spans = []
        for number in numbers:
            low, high = marks[self.topic, number]
            begin = since.get(number, _offset(start, low, high))
            spans.append(Span(number, low, high, min(max(begin, low), high)))
        return spans

    def begin(self, spans: Sequence[Span], *, follow: bool) -> None:
        """Read these: to where they end now, or with ``follow`` for ever."""
        some = [one for one in spans if follow or one.start < one.high]
        self._ends = {one.partition: one.high for one in some}
        self._client.assign([self._at(one.partition, one.start) for one in some])

    def only(self, number: int) -> None:
        """Read this partition on, and the others no more."""
        others = [self._at(one, 0) for one in self._ends if one != number]
        self._client.pause(others)
        self._ends = {one: end for one, end in self._ends.items() if one == number}

    def records(self) -> Iterator[list[Record]]:
        """What comes, a batch at a time, until the ends. Raises :class:`KfdError`."""
        heard = time.monotonic()
        while self._ends:
            messages = self._poll()
            batch = [one for one in map(self._record, messages) if one is not None]
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._timeout:
                raise BrokerAwayError(
                    self._trouble or "the brokers say nothing",
                    where=self.topic,
                    fix="start the brokers, or try again",
                )
            if batch:
                yield batch

    def follow(self) -> Iterator[list[Record]]:
        """What comes, for ever; empty batches where nothing does for a moment."""
        while True:
            yield [one for one in map(self._followed, self._poll()) if one is not None]

    @property
    def trouble(self) -> str:
        """What keeps the brokers from answering, as far as is known; empty if they do."""
        return self._trouble

    def _poll(self) -> list[Message]:
        first = self._client.poll(_POLL_SECONDS)
        if first is None:
            return []
        # consume() waits for its whole timeout unless it gets all: ask for what is there already
        messages = [first, *self._client.consume(_BATCH - 1, 0)]
        if any(one.error() is None for one in messages):
            self._trouble = ""
        return messages

    def _record(self, message: Message) -> Record | None:
        """One that lies before its partition's end; notes the ends."""
        some: Any = message  # the client's types allow what Kafka doesn't
        number, offset = some.partition(), some.offset()
        failure = some.error()
        end = self._ends.get(number)
        if failure is not None:
            self._failed(failure)
            if failure.code() == _END:
                self._ends.pop(number, None)
            return None
        if end is None:
            return None
        if offset + 1 >= end:
            del self._ends[number]
            self._client.pause([self._at(number, offset)])
            if offset >= end:
                return None
        return _record(some)

    def _followed(self, message: Message) -> Record | None:
        failure = message.error()
        if failure is None:
            return _record(message)
        self._failed(failure)
        return None

    def _failed(self, failure: KafkaError) -> None:
        """Others than these are the client's to mend."""
        if failure.code() in _FINAL:
            raise TopicRefusedError(
                describe(failure), where=self.topic, fix="look at the topic, and at its ACLs"
            )

    def _partitions(self, wanted: Collection[int]) -> list[int]:
        topic = self._cluster.topics([self.topic])[self.topic]
        if isinstance(topic, TopicRefusedError):
            raise topic
        if topic is None:
            raise KfdError(
                f"there is no topic {self.topic}", fix="look at its name, and at the brokers"
            )
        self.topic_id = topic.topic_id
        there = range(topic.partitions)
        missing = sorted(set(wanted) - set(there))
        if missing:
            raise UsageError(
                f"{self.topic} has no partition {missing[0]}",
                fix=f"it has 0 to {topic.partitions - 1}",
            )
        return sorted(set(wanted)) or list(there)

    def _offsets_since(self, since: float, numbers: Sequence[int]) -> dict[int, int]:
        """The first offset at or after that time, of partitions that have one."""
        asked = [self._at(number, int(since * 1000)) for number in numbers]
        try:
            found = self._client.offsets_for_times(asked, self._timeout)
        except KafkaException as error:
            raise BrokerAwayError(
                describe(error.args[0]), where=self.topic, fix="look at the brokers: kfdctl doctor"
            ) from None
        # beyond the newest record it is OFFSET_END, which is negative
        return {one.partition: one.offset if one.offset >= 0 else 1 << 62 for one in found}

    def _at(self, number: int, offset: int) -> TopicPartition:
        return TopicPartition(self.topic, number, offset)

    def _on_error(self, error: KafkaError) -> None:
        self._trouble = describe(error)


def _offset(start: Start, low: int, high: int) -> int:
    if start.offset is not None:
        return start.offset
    return high if start.latest else low


def _record(message: Any) -> Record:
    kind, milliseconds = message.timestamp()
    return Record(
        message.partition(),
        message.offset(),
        None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000,
        message.key(),
        headers_of(message),
        message.value(),
    )
