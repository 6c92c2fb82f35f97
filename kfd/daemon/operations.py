"""What the control server asks of the rest of the daemon.

The server knows sockets, framing and permissions; ``Answers`` implements this protocol and
knows the ledger and the stages. Every method is called in a server's connection thread, may take
as long as a ledger transaction, and raises :class:`kfd.errors.KfdError` to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kfd.control import Sent, Status, Transfer


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file that a client wants sent. ``descriptor`` stays the server's, which closes it."""

    descriptor: int
    source: bytes | None  # the caller's absolute path of it, if it has one
    name: bytes | None  # the wire path that the caller insists on
    fallback: bytes | None = None  # that of a file outside the route's directory; else its name


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One ``Send``: all files go to the same route and topic with the same metadata."""

    files: Sequence[OfferedFile]
    route: str | None
    topic: str | None
    meta: Mapping[str, str]
    again: bool
    dry_run: bool
    uid: int


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """What is still to be finished before a graceful stop."""

    transfers: int
    size: int  # bytes


class Operations(Protocol):
    """The daemon as the control server sees it."""

    def send(self, request: SendRequest) -> list[Sent]:
        """Queue files durably; one answer for each, in their order."""

    def transfers(self, tids: Sequence[str]) -> list[Transfer]:
        """The transfers with these ids (32 hex digits, or the last 8), in their order."""

    def list_transfers(self, state: str | None, route: str | None, limit: int) -> list[Transfer]:
        """The newest transfers of both directions."""

    def status(self) -> Status:
        """A snapshot; never waits for Kafka."""

    def wait_for_change(self, seen: int, timeout: float) -> int:
        """Wait until a transfer's state has changed since change number ``seen``, at most
        ``timeout`` seconds; returns the newest change number."""

    def begin_drain(self) -> None:
        """Take no new files; go on with what is queued. Idempotent."""

    def drain_progress(self) -> DrainProgress:
        """What is left to drain."""

    def request_stop(self) -> None:
        """Stop the daemon in order. Returns at once."""
