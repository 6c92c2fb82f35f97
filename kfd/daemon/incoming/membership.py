"""How a consumer thread takes part in its group: who it is, what is its own, as which client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kfd.daemon.incoming.pulse import Pulse
from kfd.kafka import Topic, client_properties

DEFAULT_MAX_POLL_MS = 300_000  # librdkafka's
DEFAULT_SESSION_MS = 10_000  # ours: a member that died is missed so much sooner

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Membership:
    """How a consumer thread takes part in its group."""

    route: str
    topic: str
    group: str
    member: str  # unique and stable: origin, ledger, route and thread; see :meth:`known_as`
    start: str  # earliest or latest; where a group that never committed begins
    whole: bool  # the group deals all partitions out at once, and not only the differences
    alone: bool = False  # reads only while it has all partitions of the topic

    def known_as(self, topic: Topic | None) -> str:
        """The static member's name in the group, for as long as the topic is as it is now.

        Who comes back under the same name gets the partitions that the group had dealt out before,
        and nobody looks whether these are still all: after the topic was deleted and made again
        that is none, for ever; with partitions added meanwhile, the old ones.
        """
        if topic is None:
            return self.member
        return f"{self.member}-{topic.topic_id}-{topic.partitions}"

    def properties(
        self,
        topic: Topic | None,
        common: Mapping[str, str],
        on_trouble: Callable[[Any], None],
        on_commit: Callable[[Any, Any], None],
    ) -> dict[str, Any]:
        """librdkafka's configuration for this member; the callbacks are of its kinds.

        ``topic`` is as it was seen last; none if it wasn't yet, and nobody is to join the group.
        """
        shared = client_properties(common, on_trouble) | {
            "group.id": self.group,
            "enable.auto.commit": "false",
            "enable.auto.offset.store": "false",
            "auto.offset.reset": "error",
            "on_commit": on_commit,
        }
        defaults = {
            "queued.max.messages.kbytes": "4096",
            "fetch.max.bytes": str(4 << 20),
            # with so short a queue, the default of a second would leave the thread idle
            "fetch.queue.backoff.ms": "10",
        }
        if self.whole:
            # there static membership is fatal after a kill; here it brings partitions back at once
            defaults |= {
                "session.timeout.ms": str(DEFAULT_SESSION_MS),
                "heartbeat.interval.ms": "1000",  # each round of a rebalance waits for one
                "group.instance.id": self.known_as(topic),
                # In one round: a group that calls itself stable has a reader for each partition.
                # Members killed between the two of "cooperative-sticky" come back to a stable
                # group in which nobody has what was given up in the first.
                "partition.assignment.strategy": "range",
            }
        return defaults | shared


@dataclass(slots=True)
class Assignment:
    """The partitions that are a thread's, as of now; for those who may act only on them.

    One that hasn't polled for ``max_poll_seconds`` has been thrown out of its group, whether it
    knows it or not: it has none. Nor has one whose process stood still since it joined.
    """

    max_poll_seconds: float
    pulse: Pulse
    partitions: set[int] = field(default_factory=set)
    polled_at: float = 0.0  # monotonic
    standstills: int = 0  # when it joined

    def __contains__(self, partition: object) -> bool:
        fresh = time.monotonic() - self.polled_at < self.max_poll_seconds
        return partition in self.partitions and fresh and not self.stood_still()

    def joins(self) -> None:
        """Note that its thread becomes a member."""
        self.standstills = self.pulse.standstills

    def stood_still(self) -> bool:
        """Whether the process did since then. It has to join anew: others may have its place."""
        return self.pulse.standstills != self.standstills

    def polled(self, message: Message) -> Message:
        """Note that the client was polled; gives what it gave."""
        self.polled_at = time.monotonic()
        return message


def max_poll_seconds(properties: Mapping[str, str]) -> float:
    """For how long a member's thread may be silent, by librdkafka's properties."""
    return int(properties.get("max.poll.interval.ms", DEFAULT_MAX_POLL_MS)) / 1000


def session_seconds(properties: Mapping[str, str]) -> float:
    """For how long a member's process may be silent, by librdkafka's properties."""
    return int(properties.get("session.timeout.ms", DEFAULT_SESSION_MS)) / 1000
