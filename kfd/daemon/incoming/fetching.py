"""Kafka's client of one consumer thread: a member of a group, and what it fetches from where.

Which partitions are taken, where they begin and what is committed is decided elsewhere
(``ownership.py``, ``commits.py``): the client does nothing of that by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kfd.daemon.incoming.commits import of_topic
from kfd.daemon.incoming.membership import Assignment, Membership
from kfd.daemon.incoming.record import Record
from kfd.kafka import Topic, headers_of, raising, refused_properties

BATCH = 256  # records
POLL_SECONDS = 0.2


class Fetcher:
    """From joining the group until leaving it. All in the consumer's thread."""

    def __init__(
        self,
        membership: Membership,
        assignment: Assignment,
        topic: Topic | None,
        properties: Mapping[str, str],
        on_trouble: Callable[[KafkaError], None],
        on_commit: Callable[[KafkaError | None, Sequence[TopicPartition]], None],
    ) -> None:
        """Raises :class:`ConfigError` for properties that librdkafka refuses."""
        self._membership = membership
        self._assignment = assignment
        self._leaving = False
        try:
            self.client = Consumer(membership.properties(topic, properties, on_trouble, on_commit))
        except (KafkaException, TypeError, ValueError) as error:
            raise refused_properties(error, properties) from error

    def join(self, on_assign: Dealt, on_revoke: Dealt, on_lost: Dealt) -> None:
        """Become a member of the group. The callbacks are called while it is polled."""
        self._assignment.joins()

        def told(callback: Dealt) -> Callable[[Consumer, Sequence[TopicPartition]], None]:
            return raising(
                lambda _client, partitions: None if self._leaving else callback(self, partitions)
            )

        self.client.subscribe(
            [self._membership.topic],
            on_assign=told(on_assign),
            on_revoke=told(on_revoke),
            on_lost=told(on_lost),
        )

    def close(self) -> None:
        """Leave the client; the group keeps its static member's place for a while.

        A rebalance that is under way still comes while the client is closed. It concerns nobody any
        more: what was ours has been given up, and the client can't be asked for anything.
        """
        self._leaving = True
        self.client.close()

    def poll(self) -> list[Message]:
        """What is there, waiting for the first of it. Serves rebalances."""
        first = self._assignment.polled(self.client.poll(POLL_SECONDS))
        if first is None:
            return []
        # consume() waits for its whole timeout unless it gets all: ask for what is there already
        return [first, *self.client.consume(BATCH - 1, 0)]

    def poll_paused(self, seconds: float) -> None:
        """Serve rebalances. What comes of partitions that are new is to be read again."""
        message = self._assignment.polled(self.client.poll(seconds))
        if message is not None and (failure := message.error()) and is_fatal(failure):
            raise KafkaException(failure)

    def records(self, messages: Iterable[Message]) -> list[Record]:
        """Those of the messages that are records of our partitions."""
        read = self._timed if self._membership.alone else self._record
        return [one for message in messages if (one := read(message)) is not None]

    def read(self, partitions: list[TopicPartition]) -> None:
        """Fetch these from their offsets: all that are ours where the group deals out the whole."""
        if self._membership.whole:
            self.client.assign(partitions)
        else:
            self.client.incremental_assign(partitions)
        self.client.resume(partitions)  # one that was given up is still paused if it was before

    def release(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these no more."""
        if self._membership.whole:
            self.client.unassign()
        else:
            self.client.incremental_unassign(list(partitions))

    def move(self, offsets: Mapping[int, int], positions: Mapping[int, int]) -> None:
        """Read partitions on from other offsets; ``positions`` are those of all that are ours.

        (After a reset error ``seek`` fails.)
        """
        if self._membership.whole:
            offsets = {**positions, **offsets}
        moved = [of_topic(self._membership, *one) for one in offsets.items()]
        if not self._membership.whole:
            self.client.incremental_unassign(moved)
        self.read(moved)

    def pause(self) -> None:
        """Fetch nothing until :meth:`read` or :meth:`move`; the group keeps who goes on polling."""
        ours = [of_topic(self._membership, one) for one in self._assignment.partitions]
        self.client.pause(ours)

    def behind(self, number: int, position: int) -> int | None:
        """How many records a partition has after ``position``, as far as it was seen."""
        low, high = self.client.get_watermark_offsets(
            of_topic(self._membership, number), cached=True
        )
        return max(0, high - max(low, position)) if high >= 0 else None

    def _timed(self, message: Message) -> Record | None:
        """With its time: of files that are spread over partitions it tells which is newer."""
        record = self._record(message)
        return record and replace(record, timestamp=message.timestamp()[1])

    def _record(self, message: Message) -> Record | None:
        fetched: Any = message  # the client's types allow what Kafka doesn't
        partition: int = fetched.partition()
        if message.error() is not None:
            return None
        if partition not in self._assignment.partitions:  # fetched before it was given up
            return None
        return Record(partition, fetched.offset(), headers_of(fetched), fetched.value())


Dealt = Callable[[Fetcher, Sequence[TopicPartition]], None]
"""What is called when the group has dealt out partitions, or wants some back."""


def is_fatal(error: KafkaError) -> bool:
    """Whether the client can't go on. As a message it has the code, but not the flag."""
    return bool(error.fatal() or error.code() == KafkaError._FATAL)  # noqa: SLF001 - public name
