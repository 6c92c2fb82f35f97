"""Partitions that a consumer thread is given, and gives up again.

Before it gives them up in order, what is worth it is made durable, and committed; when they were
lost it does neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaError, TopicPartition

from kfd.daemon.incoming.commits import Commits, of_topic
from kfd.daemon.incoming.fetching import Fetcher
from kfd.daemon.incoming.membership import Assignment, Membership
from kfd.daemon.incoming.receiver import Receiver
from kfd.daemon.publishing.partials import DiskError
from kfd.daemon.topics.topics import TopicWatch

log = logging.getLogger(__name__)


class Ownership:
    """Of one thread, for as long as the topic is the same one."""

    def __init__(
        self,
        name: str,
        membership: Membership,
        receiver: Receiver,
        assignment: Assignment,
        topics: TopicWatch,
        commits: Commits,
    ) -> None:
        """``name`` is the thread's; ``assignment`` is kept up to date here."""
        self._name = name
        self._membership = membership
        self._receiver = receiver
        self._assignment = assignment
        self._topics = topics
        self._commits = commits

    @property
    def topic_id(self) -> str:
        """Of the topic whose partitions these are."""
        return self._commits.topic_id

    def holds(self) -> bool:
        """Whether the topic is the same one still, as far as is known."""
        topic = self._topics.readable(self._membership.topic)
        return topic is None or topic.topic_id == self.topic_id

    def take(self, fetcher: Fetcher, partitions: Sequence[TopicPartition]) -> None:
        """The group has given us these. Raises :class:`KafkaException`, :class:`DiskError`."""
        starts = []
        for one in self._commits.inherited(fetcher.client, partitions):
            start = self._receiver.take(one.partition, self.topic_id, one.offset, one.progress)
            self._assignment.partitions.add(one.partition)
            starts.append(of_topic(self._membership, one.partition, start))
            if start != one.offset:
                log.info("%s: partition %d goes on at %d", self._name, one.partition, start)
        fetcher.read(starts)
        log.info("%s: reads partitions %s", self._name, sorted(self._assignment.partitions))

    def save(self, fetcher: Fetcher) -> None:
        """Before partitions are left: make durable what is worth it, and commit."""
        try:
            self._receiver.checkpoint(leaving=True)
        except DiskError as error:
            log.warning("%s: %s", self._name, error)
        self.commit(fetcher, wait=True)

    def commit(self, fetcher: Fetcher, *, wait: bool = False) -> None:
        """Commit what is new."""
        if self.holds() and (wait or self._commits.is_due()):
            self._commits.commit(fetcher.client, self._receiver.progress(), wait=wait)

    def on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """The brokers' answer to a commit."""
        self._commits.on_commit(error, partitions)

    def give_up(self, partitions: Iterable[int]) -> None:
        """These are not ours any more; what is durable of them stays."""
        partitions = list(partitions)
        for number in partitions:
            self._assignment.partitions.discard(number)
            self._commits.forget(number)
        try:
            self._receiver.drop(partitions)
        except DiskError as error:
            log.warning("%s: %s", self._name, error)
            self._receiver.forget(partitions)
