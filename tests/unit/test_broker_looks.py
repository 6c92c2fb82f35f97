"""Addresses of brokers, and what is advised where they let nobody in."""

from __future__ import annotations

import socket

import pytest
from confluent_kafka import KafkaError

from kfd.config import from_values
from kfd.examination.brokers import addresses, login_fix
from kfd.examination.cluster import look_at_cluster
from kfd.kafka import BrokerAddress, BrokerAwayError, describe


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ("b", [("b", 9092)]),
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        (" a:1 , SSL://b:2", [("a", 1), ("b", 2)]),
        ("[::1]:7", [("::1", 7)]),
    ],
)
def test_addresses(servers: str, found: list[tuple[str, int]]) -> None:
    assert list(addresses(servers)) == [BrokerAddress(*one) for one in found]


def test_an_address_is_shown_as_it_is_written() -> None:
    assert BrokerAddress("::1", 7).shown == "[::1]:7"
    assert BrokerAddress("b", 7).shown == "b:7"


class Cluster:
    """One whose brokers let nobody in."""

    def nodes(self) -> list[BrokerAddress]:
        raise BrokerAwayError("SASL authentication error", fix="x")

    def topics(self, _: object) -> None:
        pytest.fail("nobody is let in")


def test_after_a_failed_login_topics_and_rights_are_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        properties = {"bootstrap.servers": f"127.0.0.1:{broker.getsockname()[1]}"}
        upload = {"directory": "/u", "topic": "t"}
        config = from_values({"kafka": properties, "uploads": {"u": upload}})
        checks = list(look_at_cluster(config, properties, Cluster()))  # type: ignore[arg-type]
    assert [(one.name.partition(" ")[0], one.outcome.value) for one in checks] == [
        ("broker", "ok"),
        ("login", "fail"),
        ("topics", "skipped"),
    ]


def test_brokers_of_which_none_is_reached_are_no_doubt(unused_port: int) -> None:
    properties = {"bootstrap.servers": f"127.0.0.1:{unused_port},[::1]:{unused_port}"}
    checks = list(look_at_cluster(from_values({"kafka": properties}), properties, Cluster()))  # type: ignore[arg-type]
    assert [one.outcome.value for one in checks] == ["fail", "fail", "skipped", "skipped"]


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("SASL authentication error: Authentication failed", "sasl.password"),
        ("SSL handshake failed: certificate verify failed", "ssl.ca.location"),
        ("Disconnected while requesting ApiVersion", "security.protocol is plaintext"),
        ("something new", "broker's log"),
        # as librdkafka 2.x says it of a port with another protocol
        (
            "SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a"
            " PLAINTEXT broker listener? (after 1ms in state SSL_HANDSHAKE)",
            "security.protocol is",
        ),
        (
            "Disconnected while requesting ApiVersion: might be caused by incorrect"
            " security.protocol configuration (connecting to a SSL listener?)",
            "security.protocol is",
        ),
        (
            "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL"
            " state: broker's supported mechanisms:  (after 0ms in state AUTH_HANDSHAKE)",
            "security.protocol is",
        ),
        (
            "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's"
            " supported mechanisms: SCRAM-SHA-512 (after 0ms in state AUTH_HANDSHAKE)",
            "sasl.mechanism",
        ),
    ],
)
def test_what_to_do_about_the_login(reason: str, part: str) -> None:
    assert part in login_fix(reason, {})


def test_an_error_reads_the_same_each_time() -> None:
    said = "k:1: Connect failed (after 3ms in state CONNECT, 2 identical error(s) suppressed)"
    assert describe(KafkaError(KafkaError._TRANSPORT, said)) == "k:1: Connect failed"
