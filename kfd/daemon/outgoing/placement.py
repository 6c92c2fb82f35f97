"""Which partition the chunks of a path lie in."""

from __future__ import annotations

from typing import Final

_CANDIDATES: Final = (
    16  # looked at for each choice, so that a topic may have thousands of partitions
)
RUN_BYTES: Final = 1_000_000  # librdkafka's default batch.size


class Placement:
    """Chooses the least loaded partition of one topic. Guarded by the feed's lock.

    The load is what this daemon has placed and not yet seen acknowledged. Files that come one after
    another stay together until they fill a batch: fewer requests, and half of the broker's work for
    small files. Then ties go round, so that they spread as well.
    """

    def __init__(self, topic_id: str, partitions: int) -> None:
        self.topic_id = topic_id
        self.partitions = partitions
        self._load = [0] * partitions  # bytes
        self._current = 0
        self._run = 0  # bytes placed in the current partition since it was chosen
        self._cursor = 0

    def choose(self, topic_id: str | None, partition: int | None) -> int:
        """The partition of a path that had ``partition`` of topic ``topic_id`` last, if it had."""
        if partition is not None and topic_id == self.topic_id:
            return partition
        if self._run == 0 or self._run >= RUN_BYTES:
            self._current = self._least_loaded()
            self._run = 0
        return self._current

    def add(self, partition: int, size: int) -> None:
        """Count (or with a negative size, discount) bytes to be sent to a partition."""
        if partition < self.partitions:
            self._load[partition] = max(0, self._load[partition] + size)
            if partition == self._current:
                self._run += max(0, size)

    def _least_loaded(self) -> int:
        start = self._cursor
        count = min(_CANDIDATES, self.partitions)
        candidates = [(start + i) % self.partitions for i in range(count)]
        chosen = min(candidates, key=self._load.__getitem__)
        self._cursor = (chosen + 1) % self.partitions
        return chosen
