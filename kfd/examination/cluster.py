"""All looks at Kafka: the brokers, then, where they let kfd in, topics and rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kfd.acls import principal
from kfd.config import Config
from kfd.control.examination import Check, Outcome
from kfd.examination.brokers import LOGIN, look_at_brokers
from kfd.examination.checks import skipped
from kfd.examination.topics import look_at_rights, look_at_topics
from kfd.kafka import ClusterView


def look_at_cluster(
    config: Config, properties: Mapping[str, str], cluster: ClusterView
) -> Iterator[Check]:
    """With the properties that ``cluster`` was made with."""
    let_in = False
    for check in look_at_brokers(properties, cluster):
        let_in |= check.name == LOGIN and check.outcome is Outcome.OK
        yield check
    if not let_in:
        yield skipped("topics", "they and the rights are shown only to who is let in")
        return
    servers = properties["bootstrap.servers"]
    yield from look_at_topics(config, cluster, servers)
    yield from look_at_rights(config, cluster, servers, principal(properties))
