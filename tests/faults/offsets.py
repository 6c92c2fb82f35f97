"""What a group has committed, asked for by a plain client that is no member of it."""

from __future__ import annotations

from collections import defaultdict

from confluent_kafka import Consumer, TopicPartition

from tests.background import Background

LOOK_SECONDS = 0.05


class Offsets:
    """The offsets that a group has committed on a topic."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._partitions = [TopicPartition(topic, number) for number in partitions]

    def committed(self) -> dict[int, int]:
        """By partition; those that were committed."""
        found = self._consumer.committed(self._partitions, timeout=30)
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def lag(self) -> int:
        """Records that are on the topic, and not below what was committed."""
        committed = self.committed()
        ends = {
            one.partition: self._consumer.get_watermark_offsets(one, timeout=30)
            for one in self._partitions
        }
        return sum(high - committed.get(number, low) for number, (low, high) in ends.items())

    def close(self) -> None:
        self._consumer.close()


class OffsetsWatch(Background):
    """Looks at them all the time: ``fallen`` lists each that was committed and went back."""

    def __init__(self, offsets: Offsets) -> None:
        super().__init__("offsets")
        self.fallen: list[tuple[int, int, int]] = []  # partition, from, to
        self._offsets = offsets
        self._highest: dict[int, int] = defaultdict(int)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for number, offset in self._offsets.committed().items():
                if offset < self._highest[number]:
                    self.fallen.append((number, self._highest[number], offset))
                self._highest[number] = offset
