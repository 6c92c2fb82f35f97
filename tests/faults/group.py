"""A consumer group as its administrator sees it: where it is, and how it is put elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.support import eventually

LEFT_SECONDS = 30  # in which the brokers notice that a killed member is gone


class Group:
    """The offsets of a group on one topic. Its members must have ended."""

    def __init__(self, bootstrap: str, name: str, topic: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._name = name
        self._topic = topic

    def committed(self) -> dict[int, int]:
        """By partition; those that were committed."""
        asked = [ConsumerGroupTopicPartitions(self._name)]
        found = self._admin.list_consumer_group_offsets(asked)[self._name].result(30)
        return {one.partition: one.offset for one in found.topic_partitions if one.offset >= 0}

    def ends(self) -> dict[int, int]:
        """The next offset of each partition."""
        return self._offsets(OffsetSpec.latest())

    def starts(self) -> dict[int, int]:
        """The first offset that each partition still has."""
        return self._offsets(OffsetSpec.earliest())

    def to_start(self) -> None:
        """All of the topic is read again."""
        self.put(self.starts())

    def put(self, offsets: Mapping[int, int]) -> None:
        """Set them, once the brokers know that no member is left."""
        partitions = [TopicPartition(self._topic, *one) for one in offsets.items()]
        wanted = [ConsumerGroupTopicPartitions(self._name, partitions)]

        def put() -> bool:
            try:
                self._admin.alter_consumer_group_offsets(wanted)[self._name].result(30)
            except KafkaException:
                return False  # not empty yet
            return self.committed().items() >= offsets.items()

        eventually(put, LEFT_SECONDS, every=0.5)

    def forget(self, before: Mapping[int, int]) -> None:
        """Drop the records before these offsets from the topic, as its retention does."""
        wanted = [TopicPartition(self._topic, *one) for one in before.items()]
        for done in self._admin.delete_records(wanted).values():
            done.result(30)

    def _offsets(self, spec: OffsetSpec) -> dict[int, int]:
        described = self._admin.list_topics(self._topic, timeout=30).topics[self._topic]
        asked = {TopicPartition(self._topic, number): spec for number in described.partitions}
        found = self._admin.list_offsets(asked)
        return {one.partition: done.result(30).offset for one, done in found.items()}
