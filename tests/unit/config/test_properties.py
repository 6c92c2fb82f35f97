"""The properties below ``kafka:``: taken, refused, and hidden where they are secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config import load, show
from kfd.config.properties import RESERVED, is_secret
from tests.unit.config.files import KAFKA, faults, written


@pytest.mark.parametrize(
    "text", ["0123", "1e5", "yes", "null", "2024-01-01", "1:30", "0x1F", "5.", "~", "=", "off"]
)
def test_a_password_is_text_whatever_it_looks_like(tmp_path: Path, text: str) -> None:
    config = load(written(tmp_path, KAFKA, f"  sasl.password: {text}\n"))
    assert config.kafka_properties()["sasl.password"] == text


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_what_is_kfds_own_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, KAFKA, f"  {name}: hunter2\n")
    assert faults(path) == [(f"kfd.yaml:3: kafka.{name}: kfd's own", RESERVED[name])]


@pytest.mark.parametrize(
    "name",
    ["group.protocol", "session.timeout.ms", "linger.ms", "batch.size", "debug", "client.id"],
)
def test_other_properties_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    config = load(written(tmp_path, KAFKA, f"  {name}: consumer\n"))
    assert config.kafka_properties() == {"bootstrap.servers": "broker:9092", name: "consumer"}


FORMS = "write text, {file: PATH} or {credential: NAME}"


@pytest.mark.parametrize(
    ("value", "what", "fix"),
    [
        ("", "kafka.sasl.password: no value", "write one, or remove the line"),
        ("[hunter2]", "kafka.sasl.password: not text", FORMS),
        ("{fil: /hunter2}", "kafka.sasl.password: not text", FORMS),
        ("{file: hunter2}", "kafka.sasl.password: not an absolute path", FORMS),
        ("{file: /a, credential: hunter2}", "kafka.sasl.password: not text", FORMS),
        ("{file: [hunter2]}", "kafka.sasl.password: not text", FORMS),
        ("{credential: ../hunter2}", "kafka.sasl.password: not the name of a credential", FORMS),
        ('"hunter2\\0"', "kafka.sasl.password: holds a NUL", "librdkafka cannot take it"),
    ],
)
def test_what_is_no_property_is_not_quoted(tmp_path: Path, value: str, what: str, fix: str) -> None:
    path = written(tmp_path, KAFKA, f"  sasl.password: {value}\n")
    assert faults(path) == [(f"kfd.yaml:3: {what}", fix)]


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {bootstrap.servers: 'b:1', sasl.password:hunter2}\n",
        "kafka: {bootstrap.servers: 'b:1', sasl.password: *hunter2}\n",
        "kafka: {bootstrap.servers: 'b:1', sasl.password: hunter2\n",
        "kafka:\n  bootstrap.servers: 'b:1'\n  sasl.password: 'hunter2\n",
        "kafka:\n  bootstrap.servers: 'b:1'\n  sasl.password hunter2\n",
        "kafka:\n  sasl.password: hunter2\n  error_cb: hunter2\n",
        "kafka: hunter2\n",
        "sasl.password: hunter2\n",
        "uploads: {a: {directory: /a, topic: t, sasl.password: hunter2}}\n",
        "catalogue: {a: 'postgresql://u:hunter2@h'}\n",
        "catalogue: postgresql://u:hunter2@h\n",
    ],
)
def test_no_slip_shows_a_secret(tmp_path: Path, text: str) -> None:
    for fault, fix in faults(written(tmp_path, text)):
        assert "hunter2" not in fault + fix


SECRET_NAMES = (
    "sasl.password",
    "sasl.pasword",
    "password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.config",
    "sasl.jaas.config",
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secrets_are_hidden_wherever_a_configuration_is_shown(tmp_path: Path, name: str) -> None:
    config = load(written(tmp_path, KAFKA, f"  {name}: hunter2\n"))
    for text in (show(config), repr(config), str(config), repr(config.kafka), f"{config.kafka}"):
        assert "hunter2" not in text
        assert f"{name}" in text
        assert "(hidden)" in text
    assert config.kafka_properties()[name] == "hunter2"


@pytest.mark.parametrize(
    "name",
    [
        "bootstrap.servers",
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "ssl.ca.location",
    ],
)
def test_what_helps_to_find_a_fault_is_shown(name: str) -> None:
    assert not is_secret(name)
