"""What the two halves of the daemon share, made by the supervisor before both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger
from kfd.daemon.life import Life
from kfd.daemon.pauses import Pauses
from kfd.daemon.rates import Rates
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import ClusterView


@dataclass(frozen=True, slots=True)
class Context:
    """The shared parts. ``properties`` are librdkafka's, with their secrets: never shown."""

    properties: Mapping[str, str] = field(repr=False)
    ledger: Ledger
    cluster: ClusterView
    topics: TopicWatch
    health: Health
    rates: Rates
    pauses: Pauses
    life: Life = field(default_factory=Life)
