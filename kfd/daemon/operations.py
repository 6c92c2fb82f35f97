"""What the control server asks of the rest of the daemon.

The server knows sockets, framing and permissions; ``kfd.daemon.answers`` implements these
protocols and knows the ledger and the stages. Every method is called in a server's connection
thread, may take as long as a ledger transaction, and raises :class:`kfd.errors.KfdError` to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kfd.control import Held, ListParameters, Sent, Status, Transfer
from kfd.control.catalogue import (
    Added,
    ListCataloguesReply,
    RetryCatalogueReply,
    WaitForCatalogueReply,
)
from kfd.control.events import Event
from kfd.control.examination import AclsReply, Check
from kfd.control.quarantine import (
    ListQuarantineReply,
    PurgeReply,
    ReleaseReply,
    ShowQuarantinedReply,
)
from kfd.control.reloading import ReloadReply
from kfd.control.transfers import Details, Refusal

RETRIED_AT_ONCE = 256  # transfers, in one transaction


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
    gone: Callable[[], bool]  # nobody waits for the answer any longer


@dataclass(frozen=True, slots=True)
class AddRequest:
    """Files that are to be told to one catalogue, or to all, without being sent."""

    files: Sequence[OfferedFile]
    catalogue: str | None
    meta: Mapping[str, str]
    uid: int
    gone: Callable[[], bool]  # nobody waits for the answer any longer
    rest: Callable[[], None]  # to be called now and then


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for something that only owners may do to what others have sent."""

    uid: int
    owner: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """What is sent again, as it ended, each with its successor; and what can't be."""

    transfers: Sequence[Transfer]
    refused: Sequence[Refusal]


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """What is still to be finished before a graceful stop."""

    transfers: int
    size: int  # bytes
    held: Sequence[Held] = ()  # what of it can't move now


class SendingOperations(Protocol):
    """What people send."""

    def send(self, request: SendRequest) -> list[Sent]:
        """Queue files durably; one answer for each, in their order."""


class TransferOperations(Protocol):
    """Transfers of both directions."""

    def transfers(self, tids: Sequence[str]) -> list[Transfer]:
        """The transfers with these ids (32 hex digits, or the last 8), in their order; where they
        don't move, with the reason."""

    def list_transfers(self, wanted: ListParameters) -> list[Transfer]:
        """The newest of these transfers, of both directions."""

    def looks_at_all(self, wanted: ListParameters) -> bool:
        """Whether such a list is of all that there is, not only of the newest of it."""

    def show(self, tid: str, route: str | None) -> list[tuple[Transfer, Details]]:
        """All that is known of a transfer: the sending, then what was received; of a route."""

    def cancel(self, tid: str, asker: Asker) -> Transfer:
        """Cancel a transfer that isn't in Kafka yet. Durable when this returns."""

    def retry(self, tids: Sequence[str], asker: Asker) -> Retried:
        """Send again what has failed, or was cancelled. Durable when this returns."""

    def retry_failed(
        self, route: str | None, after: int, asker: Asker
    ) -> tuple[Retried, int | None]:
        """Send again a batch of what has failed and is the asker's, from the one after number
        ``after`` on; and the number after which to go on, None at the end."""

    def wait_for_change(self, seen: int, timeout: float) -> int:
        """Wait until a transfer's state has changed since change number ``seen``, at most
        ``timeout`` seconds; returns the newest change number."""


class EventOperations(Protocol):
    """What happens to transfers."""

    def latest(self, limit: int, since: float) -> list[Event]:
        """The last events, the oldest first; none before ``since`` (epoch seconds)."""

    def follow(self) -> Callable[[], list[Event]]:
        """Gives, at each call, some of what has happened since, in order."""


class RouteOperations(Protocol):
    """Routes of both directions, by name; None: all of them."""

    def pause(self, route: str | None) -> list[str]:
        """Let them begin nothing more; their names. Durable when this returns."""

    def in_flight(self, routes: Sequence[str]) -> int:
        """Files of paused routes of which records are still on their way, or being put together."""

    def resume(self, route: str | None) -> list[str]:
        """Let them go on; their names. Durable when this returns."""

    def rescan(self, route: str | None) -> list[str]:
        """Look at all files of upload routes again; their names. Returns at once."""


class QuarantineOperations(Protocol):
    """What couldn't be published. Routes are names; None: whichever has it, or all."""

    def list_quarantine(self, route: str | None, limit: int) -> ListQuarantineReply:
        """The newest entries."""

    def show_quarantined(self, tid: str, route: str | None) -> ShowQuarantinedReply:
        """All that is known of an entry, and what a release would come to."""

    def release(self, tid: str, route: str | None, name: bytes | None) -> ReleaseReply:
        """Publish what it holds, under its name or this one. Durable when this returns."""

    def purge(self, tids: Sequence[str], route: str | None) -> PurgeReply:
        """Remove entries and contents. Durable when this returns."""

    def purge_older(self, seconds: float, route: str | None) -> PurgeReply:
        """Likewise, all that were made so many seconds ago or before."""


class ServiceOperations(Protocol):
    """The daemon as a whole."""

    def status(self) -> Status:
        """A snapshot; never waits for Kafka."""

    def metrics(self) -> str:
        """The same and more, in Prometheus' text format."""

    def backup(self, descriptor: int, gone: Callable[[], bool]) -> int:
        """Write a copy of the ledger into an empty file; its bytes. Given up when ``gone``."""

    def begin_drain(self) -> None:
        """Take no new files; go on with what is queued. Idempotent."""

    def drain_progress(self, *, paused: bool = False) -> DrainProgress:
        """What is left to drain; with what is ``paused``: what is left to the next start."""

    def request_stop(self) -> None:
        """Stop the daemon in order. Returns at once."""


class ReloadingOperations(Protocol):
    """The configuration."""

    def reload(self) -> ReloadReply:
        """Read it again, and go by it; all of it or nothing."""


class ExaminingOperations(Protocol):
    """What is wrong here, and what has to be granted."""

    def examine(self) -> Iterator[Check]:
        """All checks, as they are made."""

    def acls(self) -> AclsReply:
        """The rights that the configuration needs in Kafka."""


class CatalogueOperations(Protocol):
    """Databases elsewhere that are told of files, by name; None: all of them."""

    def list_catalogues(self, name: str | None, limit: int) -> ListCataloguesReply:
        """How they stand, and at most ``limit`` of the rows that they have refused."""

    def add(self, request: AddRequest) -> list[Added]:
        """Let them be told of files; one answer for each, in their order. Durable when this
        returns."""

    def added(self, tids: Sequence[str], name: str | None) -> WaitForCatalogueReply:
        """Which of the files that were added are still to be written, or were refused."""

    def retry_catalogue(self, name: str | None, *, everything: bool) -> RetryCatalogueReply:
        """Try again what they have refused, or tell them of everything. Durable when this
        returns."""


@dataclass(frozen=True, slots=True)
class Operations:
    """The daemon as the control server sees it."""

    sending: SendingOperations
    transfers: TransferOperations
    events: EventOperations
    routes: RouteOperations
    quarantine: QuarantineOperations
    catalogue: CatalogueOperations
    service: ServiceOperations
    reloading: ReloadingOperations
    examining: ExaminingOperations
