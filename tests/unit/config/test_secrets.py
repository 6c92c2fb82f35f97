"""Secrets in files and in systemd's credentials: read when asked for, never quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config import Config, load, show
from kfd.errors import ExitCode, KfdError, PermissionProblemError
from tests.privileges import unprivileged
from tests.unit.config.files import KAFKA, written


def with_password_in(directory: Path, content: bytes) -> Config:
    (directory / "password").write_bytes(content)
    reference = f"  sasl.password: {{file: {directory}/password}}\n"
    return load(written(directory, KAFKA, reference))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_secret_in_a_file_is_read_when_asked_for(tmp_path: Path, end: bytes) -> None:
    config = with_password_in(tmp_path, b" hunter2 \xc3\xa9" + end)
    assert config.kafka_properties()["sasl.password"] == " hunter2 é"
    assert f"file: {tmp_path}/password" in show(config)


def unresolved(config: Config) -> KfdError:
    with pytest.raises(KfdError) as caught:
        config.kafka_properties()
    assert "hunter2" not in str(caught.value) + caught.value.fix
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"hunter2\xff", "not text in UTF-8"),
        (b"hunter2\0", "not text in UTF-8"),
        (b"hunter2" * 10_000, "longer than 64 KiB"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, content: bytes, what: str) -> None:
    error = unresolved(with_password_in(tmp_path, content))
    assert str(error) == f"kfd.yaml:3: kafka.sasl.password: {what}: {tmp_path}/password"
    assert error.exit_code == ExitCode.CONFIGURATION


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    config = with_password_in(tmp_path, b"hunter2")
    (tmp_path / "password").unlink()
    error = unresolved(config)
    path = tmp_path / "password"
    assert str(error) == (
        f"kfd.yaml:3: kafka.sasl.password: not readable: {path}: No such file or directory"
    )


def test_a_secret_that_may_not_be_read(tmp_path: Path) -> None:
    config = with_password_in(tmp_path, b"hunter2")
    (tmp_path / "password").chmod(0)
    with unprivileged():
        error = unresolved(config)
    assert isinstance(error, PermissionProblemError)
    assert str(error) == f"kfd.yaml:3: kafka.sasl.password: not readable: {tmp_path}/password"


def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(written(tmp_path, KAFKA, "  sasl.password: {credential: kafka-password}\n"))
    assert "credential: kafka-password" in show(config)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    error = unresolved(config)
    assert str(error) == (
        "kfd.yaml:3: kafka.sasl.password: there are no credentials, "
        "$CREDENTIALS_DIRECTORY is not set"
    )
    assert error.fix == (
        "systemctl edit kfd -> [Service] LoadCredential=kafka-password:PATH;"
        " then systemctl restart kfd"
    )
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/kfd-lab2")
    error = unresolved(config)
    assert "no credential kafka-password was given to the service" in str(error)
    assert error.fix == "write it into /etc/credstore/kfd-lab2.kafka-password, for root only"
    (tmp_path / "kafka-password").write_text("hunter2\n")
    assert config.kafka_properties()["sasl.password"] == "hunter2"
