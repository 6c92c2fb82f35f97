"""What a consumer thread commits, and where it begins by what was committed.

Offsets are kfd's own: the client commits nothing by itself and starts nowhere by itself. A commit
that is lost only repeats work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kfd.daemon.crashpoint import reach
from kfd.daemon.incoming.beginnings import Beginnings
from kfd.daemon.incoming.membership import Membership
from kfd.kafka import describe
from kfd.offsets import Progress, decode

log = logging.getLogger(__name__)

EVERY_SECONDS = 0.5
ANSWER_SECONDS = 10.0  # to be told the group's offsets, or a partition's


@dataclass(frozen=True, slots=True)
class Inherited:
    """Where reading a partition begins, and what is known besides."""

    partition: int
    offset: int
    progress: Progress | None


@dataclass(slots=True)
class Commits:
    """Of one consumer thread, for as long as the topic is the same one."""

    name: str  # the thread's, for the log
    membership: Membership
    beginnings: Beginnings
    topic_id: str
    made_anew: bool  # the topic: what the group has committed may be of the old one
    _committed: dict[int, tuple[int, str]] = field(default_factory=dict)
    _own: set[int] = field(default_factory=set)  # partitions for which this thread has committed
    _due: float = 0.0  # monotonic
    _says_more: bool = True  # than offsets: the brokers take it

    def inherited(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> list[Inherited]:
        """Where to begin to read these. Raises :class:`KafkaException`."""
        first_time = self.beginnings.first_time(self.topic_id)
        found = []
        for one in consumer.committed(list(partitions), ANSWER_SECONDS):
            if one.error is not None:
                raise KafkaException(one.error)
            low, high = watermarks(consumer, one)
            said = decode(one.metadata)
            if self._is_of_old_topic(one.partition, said):
                found.append(Inherited(one.partition, low, None))
            elif one.offset < 0:
                offset = self._without_commit(one.partition, low, high, first_time=first_time)
                found.append(Inherited(one.partition, offset, None))
            else:
                valid = said is not None and said.offset == one.offset and said.position <= high
                found.append(Inherited(one.partition, one.offset, said if valid else None))
        return found

    def is_due(self) -> bool:
        """Whether it is time for a commit again."""
        return time.monotonic() >= self._due

    def commit(
        self, consumer: Consumer, progress: Mapping[int, Progress], *, wait: bool = False
    ) -> None:
        """Commit what is new; with ``wait``, and at once, before partitions are left."""
        now = time.monotonic()
        if not wait and now < self._due:
            return
        self._due = now + EVERY_SECONDS
        new = {number: self._said(one) for number, one in progress.items()}
        new = {number: said for number, said in new.items() if self._committed.get(number) != said}
        if not new:
            return
        offsets = [of_topic(self.membership, number, *said) for number, said in new.items()]
        reach("commit.due")
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("%s: commit: %s", self.name, describe(error.args[0]))
            self._note(error.args[0])
        else:
            self._committed.update(new)
            self._own.update(new)
        reach("commit.sent")

    def on_commit(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        """The brokers' answer to a commit."""
        for one in partitions:
            failure = error or one.error
            if failure is not None:
                self._committed.pop(one.partition, None)  # it is committed again
                self._note(failure)

    def forget(self, partition: int) -> None:
        """A partition is not ours any more."""
        self._committed.pop(partition, None)

    def _said(self, progress: Progress) -> tuple[int, str]:
        return progress.offset, progress.encode() if self._says_more else ""

    def _note(self, error: KafkaError) -> None:
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            self._says_more = False

    def _is_of_old_topic(self, partition: int, said: Progress | None) -> bool:
        if said is not None and said.topic_id != self.topic_id:
            return True
        return self.made_anew and said is None and partition not in self._own

    def _without_commit(self, partition: int, low: int, high: int, *, first_time: bool) -> int:
        """Where to begin without one. Later than the first time, that is of a new partition, or
        was forgotten by the brokers: nothing is skipped, and what is lost shows by the offset."""
        if first_time:
            return high if self.membership.start == "latest" else low
        return min(low, self.beginnings.next_offset(self.topic_id, partition))


def watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The oldest offset of a partition, and the next that is written; asks the brokers."""
    answer: tuple[int, int] | None = consumer.get_watermark_offsets(partition, ANSWER_SECONDS)
    if answer is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
    return answer


def of_topic(
    membership: Membership, number: int, offset: int | None = None, said: str = ""
) -> TopicPartition:
    """A partition of the topic, for the client; ``said`` goes with a commit."""
    if offset is None:
        return TopicPartition(membership.topic, number)
    return TopicPartition(membership.topic, number, offset, said)
