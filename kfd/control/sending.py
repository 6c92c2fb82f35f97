"""What is to be sent, and how names of files travel in requests."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kfd.control.transfers import State

MAX_META = 4096  # bytes of keys and values together
MAX_DESCRIPTORS = 253  # what the kernel passes in one message (SCM_MAX_FD)


@dataclass(frozen=True, slots=True)
class File:
    """One file to send; ``descriptor`` is its place among those passed with the request."""

    descriptor: int | None = None
    source: str | None = None
    source_base64: str | None = None
    name: str | None = None
    name_base64: str | None = None
    fallback: str | None = None
    fallback_base64: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file of a ``Send``: a transfer, or why there is none.

    ``state`` is that of the transfer; ``exit_code`` what one exits with who sends only this file.
    """

    tid: str | None
    route: str
    topic: str
    path: str
    size: int
    already: bool = False
    refused: str = ""
    fix: str = ""
    state: State | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class SendParameters:
    files: Sequence[File]
    route: str | None = None
    topic: str | None = None
    meta: Mapping[str, str] | None = None
    again: bool | None = None
    dry_run: bool | None = None


@dataclass(frozen=True, slots=True)
class SendReply:
    files: Sequence[Sent]


def name_fields(name: bytes) -> tuple[str | None, str | None]:
    """``(text, base64)`` of a file's name in a request: text where it is UTF-8, else base64."""
    try:
        return name.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(name).decode()


def name_bytes(text: str | None, encoded: str | None) -> bytes | None:
    """The name that :func:`name_fields` took apart; none if both are absent.

    Raises :class:`ValueError` where both are set, or one is malformed, empty or holds a NUL.
    """
    if text is not None and encoded is not None:
        raise ValueError("given twice, as text and as base64")
    if text is None and encoded is None:
        return None
    name = text.encode() if text is not None else base64.b64decode(encoded or "", validate=True)
    if not name or b"\0" in name:
        raise ValueError("a name is not empty and holds no NUL")
    return name


METHODS: Mapping[str, tuple[type, type]] = {
    "Send": (SendParameters, SendReply),
}
