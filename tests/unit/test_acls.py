"""What must be granted, and to whom."""

from __future__ import annotations

import pytest

from kfd.acls import grants, principal
from kfd.config import from_values
from kfd.control.examination import Resource
from kfd.examination.topics import commands

CONFIG = from_values(
    {
        "kafka": {"bootstrap.servers": "b:9092"},
        "uploads": {
            "a": {"directory": "/srv/a", "topic": "lab"},
            "b": {"directory": "/srv/b", "topic": "lab"},
        },
        "downloads": {"in": {"directory": "/data", "topic": "lab", "group": "readers"}},
    }
)


def test_each_resource_once_with_all_that_needs_it() -> None:
    found = {(one.resource, one.name): one for one in grants(CONFIG)}
    assert set(found) == {
        (Resource.TOPIC, "lab"),
        (Resource.TOPIC, "lab.receipts"),
        (Resource.CLUSTER, "kafka-cluster"),
        (Resource.GROUP, "readers"),
    }
    topic = found[Resource.TOPIC, "lab"]
    assert set(topic.operations) == {"Write", "Read", "Describe", "DescribeConfigs", "Create"}
    assert topic.why == "uploads.a, uploads.b, downloads.in"
    receipts = found[Resource.TOPIC, "lab.receipts"]
    assert set(receipts.operations) == {"Write", "Read", "Describe", "Create"}


def test_topics_that_kfd_does_not_make_need_no_create() -> None:
    without = CONFIG.model_copy(update={"create_topics": False})
    assert all("Create" not in one.operations for one in grants(without))


def test_commands() -> None:
    lines = commands(grants(CONFIG), "b:9092", "User:kfd")
    assert (
        "kafka-acls.sh --bootstrap-server b:9092 --add --allow-principal User:kfd"
        " --operation Read --group readers"
    ) in lines
    assert any(line.endswith("--operation IdempotentWrite --cluster") for line in lines)


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({}, "User:ANONYMOUS"),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "kfd"},
            "User:kfd",
        ),
        (
            {"security.protocol": "sasl_plaintext", "sasl.kerberos.principal": "kfd/h@REALM"},
            "User:kfd",
        ),
        (
            {"security.protocol": "ssl", "ssl.certificate.location": "/c.pem"},
            "User:SUBJECT-OF-THE-CERTIFICATE",
        ),
    ],
)
def test_principal(properties: dict[str, str], name: str) -> None:
    assert principal(properties) == name
