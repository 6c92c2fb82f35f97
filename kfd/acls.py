"""What kfd has to be allowed to do in Kafka, for a configuration; and who it is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from kfd.config import Config
from kfd.control.examination import Grant, Resource
from kfd.receipts import topic_of

_Needs = dict[tuple[Resource, str], tuple[dict[str, None], dict[str, None]]]

CLUSTER = "kafka-cluster"
SEND = ("Write", "Describe", "DescribeConfigs")
READ = ("Read", "Describe", "DescribeConfigs")
OPTIONAL = frozenset({"DescribeConfigs"})
"""Without these kfd works, and can't compare limits."""


def grants(config: Config) -> list[Grant]:
    """Everything that must be granted, each resource once."""
    needs: _Needs = defaultdict(lambda: ({}, {}))
    for resource, name, operations, route in _each(config):
        known, routes = needs[resource, name]
        known.update(dict.fromkeys(operations))
        routes[route] = None
    return [
        Grant(resource, name, list(operations), ", ".join(routes))
        for (resource, name), (operations, routes) in needs.items()
    ]


def _each(config: Config) -> Iterator[tuple[Resource, str, Sequence[str], str]]:
    create = ("Create",) if config.create_topics else ()
    for upload in config.uploads.values():
        route = f"uploads.{upload.name}"
        yield Resource.TOPIC, upload.topic, (*SEND, *create), route
        receipts = topic_of(upload.topic) if upload.format == "kfd" else None
        if receipts is not None:
            yield Resource.TOPIC, receipts, ("Read", "Describe"), f"receipts for {route}"
        # brokers before 3.0 want it of an idempotent producer
        yield Resource.CLUSTER, CLUSTER, ("IdempotentWrite",), route
    for download in config.downloads.values():
        route = f"downloads.{download.name}"
        yield Resource.TOPIC, download.topic, (*READ, *create), route
        yield Resource.GROUP, download.group, ("Read",), route
        if (receipts := topic_of(download.topic)) is not None:
            yield Resource.TOPIC, receipts, ("Write", "Describe", *create), f"receipts of {route}"


def principal(properties: Mapping[str, str]) -> str:
    """As whom the brokers know kfd, by librdkafka's properties, where they don't map names."""
    protocol = properties.get("security.protocol", "plaintext").lower()
    mechanism = properties.get("sasl.mechanisms", properties.get("sasl.mechanism", "GSSAPI"))
    if protocol.startswith("sasl"):
        name = properties.get("sasl.username")
        if mechanism.upper() == "GSSAPI":
            name = properties.get("sasl.kerberos.principal", "kafkaclient").partition("/")[0]
            name = name.partition("@")[0]
        return f"User:{name or 'NAME-IN-THE-TOKEN'}"
    if protocol == "ssl" and any(name.startswith("ssl.certificate") for name in properties):
        return "User:SUBJECT-OF-THE-CERTIFICATE"
    return "User:ANONYMOUS"
