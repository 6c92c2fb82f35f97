"""librdkafka's other names of properties, and the addresses of brokers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config import load
from tests.unit.config.files import faults, written


def test_an_alias_is_the_property(tmp_path: Path) -> None:
    text = "kafka:\n  bootstrap.servers: b\n  compression.codec: lz4\n  sasl.mechanisms: PLAIN\n"
    config = load(written(tmp_path, text))
    assert config.kafka_properties() == {
        "bootstrap.servers": "b",
        "compression.type": "lz4",
        "sasl.mechanism": "PLAIN",
    }
    assert config.where("kafka", "compression.type") == "kfd.yaml:3"


def test_one_property_under_two_names(tmp_path: Path) -> None:
    text = "kafka:\n  bootstrap.servers: b\n  linger.ms: 5\n  queue.buffering.max.ms: 7\n"
    assert faults(written(tmp_path, text)) == [
        (
            "kfd.yaml:4: kafka.queue.buffering.max.ms: the same as linger.ms",
            "remove one of the two",
        )
    ]


@pytest.mark.parametrize(
    "servers",
    [
        "b",
        "b:9092",
        "b:65535",
        "a:1, b:2",
        "[::1]:9092",
        "[fe80::1%eth0]",
        "SSL://b:9093",
        "10.0.0.1",
    ],
)
def test_addresses(tmp_path: Path, servers: str) -> None:
    load(written(tmp_path, f"kafka:\n  bootstrap.servers: '{servers}'\n"))


@pytest.mark.parametrize(
    "servers", ["''", "','", "'b:'", "'b:port'", "'b:0'", "b:65536", "b:99999", "'a b'", "'b,'"]
)
def test_no_addresses(tmp_path: Path, servers: str) -> None:
    ((text, fix),) = faults(written(tmp_path, f"kafka:\n  bootstrap.servers: {servers}\n"))
    assert text == "kfd.yaml:2: kafka.bootstrap.servers: not addresses of brokers"
    assert "HOST:PORT" in fix


def test_a_line_without_a_value(tmp_path: Path) -> None:
    ((text, _),) = faults(written(tmp_path, "kafka:\n  bootstrap.servers:\n"))
    assert text == "kfd.yaml:2: kafka.bootstrap.servers: no value"


def test_all_secrets_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    from kfd.errors import KfdError, faults_of  # noqa: PLC0415 - of this test only

    text = (
        "kafka:\n  bootstrap.servers: b\n  sasl.password: {file: /none/a}\n"
        "  ssl.key.password: {file: /none/b}\n"
    )
    with pytest.raises(KfdError) as caught:
        load(written(tmp_path, text)).kafka_properties()
    assert [fault.where for fault in faults_of(caught.value)] == ["kfd.yaml:3", "kfd.yaml:4"]
