"""Sees to it that every partition of what is read belongs to a member of its group.

A cooperative rebalance has two rounds: what is given up in the first is given out in the second.
Members that are killed between them come back as static members to a group that calls itself
stable, are given what they had after the first round, and no second one ever comes. The same lasts
for minutes where partitions were added. Then one of our members joins anew under another name,
which makes the group begin a round.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from kfd.daemon.consumer import ConsumerThread
from kfd.daemon.stage import Stage
from kfd.daemon.topics import TopicWatch
from kfd.errors import KfdError
from kfd.kafka import ClusterView

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A route's consumers, and what they read together with other hosts."""

    topic: str
    group: str
    consumers: list[ConsumerThread]


class Coverage(Stage):
    """Named ``coverage``."""

    def __init__(
        self, routes: Mapping[str, Reading], cluster: ClusterView, topics: TopicWatch
    ) -> None:
        super().__init__("coverage")
        self._routes = routes
        self._cluster = cluster
        self._topics = topics
        self._uncovered: dict[str, frozenset[int]] = {}  # route → as it was at the last look

    def run(self) -> None:
        while not self.stopping.wait(LOOK_SECONDS):
            self.beat()
            for name, reading in self._routes.items():
                self._look(name, reading)

    def _look(self, name: str, reading: Reading) -> None:
        uncovered = self._uncovered_now(reading)
        if uncovered and uncovered == self._uncovered.get(name):
            log.warning(
                "%s: nobody reads partitions %s of %s: one of this host's members joins anew",
                *(name, sorted(uncovered), reading.topic),
            )
            min(reading.consumers, key=lambda one: one.partitions).join_anew()
            uncovered = frozenset()  # it takes a session until the group has forgotten that member
        self._uncovered[name] = uncovered

    def _uncovered_now(self, reading: Reading) -> frozenset[int]:
        """Partitions that nobody has, and as it seems nobody will; none where it isn't known."""
        topic = self._topics.readable(reading.topic)
        if topic is None:
            return frozenset()
        try:
            covered = self._cluster.assigned(reading.group, reading.topic)
        except KfdError as error:  # the brokers are away, or don't let us look
            log.debug("group %s: %s", reading.group, error)
            return frozenset()
        return frozenset() if covered is None else frozenset(range(topic.partitions)) - covered
