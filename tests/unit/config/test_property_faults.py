"""What librdkafka refuses comes all at once, by the names and lines of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config import from_values, load
from kfd.errors import KfdError, faults_of
from kfd.propertyfaults import property_fault, property_faults
from tests.unit.config.files import written

KAFKA = "kafka:\n  bootstrap.servers: k\n"


def of_file(path: Path) -> list[str]:
    """Those that reading it tells; if it tells none, those of librdkafka."""
    try:
        config = load(path, property_fault)
    except KfdError as error:
        return [str(fault) for fault in faults_of(error)]
    return [str(fault) for fault in property_faults(config, config.kafka_properties())]


def test_librdkafkas_come_with_the_other_faults_of_the_file(tmp_path: Path) -> None:
    text = (
        "kafka:\n  bootstrap.serverz: k\n  security.protocol: nope\n  linger.ms: abc\n"
        "  enable.ssl.certificate.verification: maybe\nchunk_sise: 1MiB\n"
    )
    found = of_file(written(tmp_path, text))
    assert [one.partition(" ")[0] for one in found] == [f"kfd.yaml:{n}:" for n in range(2, 7)]
    assert found[0] == "kfd.yaml:2: kafka.bootstrap.serverz: no such property"
    assert "Invalid value" in found[2]


def test_all_of_librdkafkas_come_at_once(tmp_path: Path) -> None:
    text = KAFKA + (
        "  linger.ms: abc\n  session.timeout.ms: -4\n  security.protocol: sasl_ssl\n"
        "  sasl.mechanism: PLAINX\n  ssl.ca.location: /none\n"
    )
    found = of_file(written(tmp_path, text))
    keys = {one.split(": ")[1] for one in found}
    assert keys == {
        *("kafka.linger.ms", "kafka.session.timeout.ms", "kafka.sasl.mechanism"),
        *("kafka.sasl.username", "kafka.sasl.password", "kafka.ssl.ca.location"),
    }
    assert len(found) == len(keys)


def test_a_password_that_is_missed_hides_no_file(tmp_path: Path) -> None:
    text = KAFKA + (
        "  security.protocol: ssl\n  ssl.keystore.location: /no.p12\n  ssl.ca.location: /no.pem\n"
    )
    found = of_file(written(tmp_path, text))
    assert sorted(one.split(": ")[1] for one in found) == [
        *("kafka.ssl.ca.location", "kafka.ssl.keystore.location", "kafka.ssl.keystore.password"),
    ]


@pytest.mark.parametrize("name", ["linger.ms", "queue.buffering.max.ms"])
def test_a_fault_has_the_name_that_is_written(tmp_path: Path, name: str) -> None:
    (found,) = of_file(written(tmp_path, f"{KAFKA}  {name}: 99999999999\n"))
    assert found.startswith(f'kfd.yaml:3: kafka.{name}: Configuration property "{name}" value')


def test_what_is_right_has_no_faults(tmp_path: Path) -> None:
    text = KAFKA + "  compression.codec: zstd\n  debug: broker\n  security.protocol: ssl\n"
    assert of_file(written(tmp_path, text)) == []


def test_secrets_are_not_quoted() -> None:
    config = from_values({"kafka": {"bootstrap.servers": "k", "ssl.passwort": "geheim"}})
    (fault,) = property_faults(config, config.kafka_properties())
    assert "geheim" not in f"{fault} {fault.fix}"
