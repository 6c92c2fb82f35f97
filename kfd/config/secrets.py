"""Secrets: text, or where it lies: ``{file: PATH}`` or ``{credential: NAME}`` (below
``$CREDENTIALS_DIRECTORY``). They are read when they are asked for, and shown nowhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from kfd.errors import ConfigError, PermissionProblemError
from kfd.unit import drop_in
from kfd.units import WrongValueError
from kfd.yamlfile import small_file

HIDDEN = "(hidden)"
FORMS = "write text, {file: PATH} or {credential: NAME}"
MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class FileSecret:
    """A value that lies in a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class CredentialSecret:
    """A value that systemd hands to the service (``LoadCredential=``)."""

    name: str


@dataclass(frozen=True, slots=True)
class TextSecret:
    """A value that stands in the configuration itself."""

    text: str = field(repr=False)


def reference(kind: str, value: object) -> FileSecret | CredentialSecret:
    """What ``{kind: value}`` refers to; raises :class:`WrongValueError`."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise WrongValueError("not text", FORMS)
    if kind == "file":
        if not value.startswith("/"):
            raise WrongValueError("not an absolute path", FORMS)
        return FileSecret(Path(value))
    if kind == "credential":
        if "/" in value or value in {".", ".."}:
            raise WrongValueError("not the name of a credential", FORMS)
        return CredentialSecret(value)
    raise WrongValueError("not text", FORMS)


def shown(secret: FileSecret | CredentialSecret) -> dict[str, str]:
    """Where a secret comes from, as it is written."""
    if isinstance(secret, FileSecret):
        return {"file": str(secret.path)}
    return {"credential": secret.name}


def read(secret: FileSecret | CredentialSecret, key: str, place: str) -> str:
    """The secret itself. Raises :class:`ConfigError` or :class:`PermissionProblemError` with its
    key and place, and never with what a file holds."""
    path = secret.path if isinstance(secret, FileSecret) else _credential(secret.name, key, place)
    return _text(_bytes(path, key, place), path, key, place)


def _credential(name: str, key: str, place: str) -> Path:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory or "/", name)
    if directory and path.exists():
        return path
    why = f"no credential {name} was given to the service"
    if not directory:
        why = "there are no credentials, $CREDENTIALS_DIRECTORY is not set"
    raise ConfigError(f"{key}: {why}", where=place, fix=_where_to_put(name))


def _where_to_put(name: str) -> str:
    """What the unit loads by itself lies in a directory of systemd's, if it is there."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if name == "kafka-password" and runtime:
        return f"write it into /etc/credstore/{Path(runtime).name}.{name}, for root only"
    return drop_in(f"LoadCredential={name}:PATH")


def _bytes(path: Path, key: str, place: str) -> bytes:
    try:
        return small_file(path, MAX_SECRET_BYTES)
    except PermissionError:
        raise PermissionProblemError(
            f"{key}: not readable: {path}", where=place, fix="let the user of kfd read it"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{key}: not readable: {path}: {error.strerror}",
            where=place,
            fix="write the secret into that file, readable by the user of kfd only",
        ) from None


def _text(content: bytes, path: Path, key: str, place: str) -> str:
    text = content.decode("utf-8", errors="replace").removesuffix("\n").removesuffix("\r")
    if not text:
        what = "empty"
    elif len(content) > MAX_SECRET_BYTES:
        what = f"longer than {MAX_SECRET_BYTES // 1024} KiB"
    elif "\0" in text or "\ufffd" in text:
        what = "not text in UTF-8"
    else:
        return text
    raise ConfigError(f"{key}: {what}: {path}", where=place, fix="write the secret, and only it")


AnySecret = TextSecret | FileSecret | CredentialSecret


def _written(secret: AnySecret | None) -> object:
    if secret is None:
        return None
    return HIDDEN if isinstance(secret, TextSecret) else shown(secret)


def _given(value: object) -> AnySecret:
    if isinstance(value, str):
        if not value or "\0" in value:
            raise WrongValueError("empty, or holds a NUL", FORMS)
        return TextSecret(value)
    if isinstance(value, dict) and len(value) == 1:
        return reference(*next(iter(value.items())))
    raise WrongValueError("not text", FORMS)


Secret = Annotated[
    InstanceOf[TextSecret] | InstanceOf[FileSecret] | InstanceOf[CredentialSecret],
    PlainSerializer(_written),
    BeforeValidator(_given),
]


def revealed(secret: AnySecret, key: str, place: str) -> str:
    """The secret itself, wherever it stands; raises as :func:`read`."""
    return secret.text if isinstance(secret, TextSecret) else read(secret, key, place)
