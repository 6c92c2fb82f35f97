"""The vocabulary of the control socket: the types of interface ``io.kfd.Control``.

Each class is a type of ``io.kfd.Control.varlink`` (or the parameters of one of its methods
or errors) with the same fields in the same order; a test holds the two against one another.
``kfd.marshal`` turns them into JSON and back, ``kfd.varlink`` frames them. Times are seconds
since the epoch, sizes are bytes, names of files are escaped text.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

INTERFACE = "io.kfd.Control"
MAX_META = 4096  # bytes of keys and values together
MAX_LISTED = 10_000  # transfers in one answer to List
MAX_DESCRIPTORS = 253  # what the kernel passes in one message (SCM_MAX_FD)


class Direction(StrEnum):
    UPLOAD = "upload"
    DOWNLOAD = "download"


class State(StrEnum):
    """Where a transfer is: the first six of uploads, the others of downloads."""

    QUEUED = "queued"
    SENDING = "sending"
    IN_KAFKA = "in_kafka"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RECEIVING = "receiving"
    PUBLISHED = "published"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"

    @property
    def ended(self) -> bool:
        """True of a state that no transfer leaves."""
        return self in _ENDED

    def reached(self, until: Until) -> bool:
        """True if one who waits for ``until`` need not wait any longer."""
        return self.ended or self in _REACHED[until]


class Until(StrEnum):
    """What one can wait for."""

    QUEUED = "queued"
    IN_KAFKA = "in_kafka"
    DELIVERED = "delivered"


_ENDED = frozenset(State) - {State.QUEUED, State.SENDING, State.IN_KAFKA, State.RECEIVING}
_REACHED: Mapping[Until, frozenset[State]] = {
    Until.QUEUED: frozenset(State),
    Until.IN_KAFKA: frozenset({State.IN_KAFKA}),
    Until.DELIVERED: frozenset(),
}


class DaemonState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Transfer:
    tid: str
    direction: Direction
    route: str
    topic: str
    origin: str
    path: str
    path_base64: str | None
    size: int
    state: State
    done: int  # bytes acknowledged, or received
    reason: str
    fix: str
    queued_at: float | None
    ended_at: float | None
    successor: str | None  # the tid that took over


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
    """What became of one file of a ``Send``: a transfer, or why there is none."""

    tid: str | None
    route: str
    topic: str
    path: str
    size: int
    already: bool = False
    refused: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """An upload route now; the counts are of transfers. No directory: only ``kfdctl send``.

    ``in_kafka`` are those not yet delivered. ``bad`` counts, by reason, the receipts about files on
    this topic that were not used.
    """

    route: str
    topic: str
    directory: str | None
    send: bool
    queued: int
    sending: int
    in_kafka: int
    delivered: int
    failed: int
    cancelled: int
    bytes_per_second: float
    last: str | None
    last_at: float | None
    bad: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DownloadRoute:
    """A download route now. ``bad`` counts, by reason, the records that were not used."""

    route: str
    topic: str
    directory: str
    receiving: int
    published: int
    records: int
    bad: Mapping[str, int]
    quarantined: int
    lag: int | None
    bytes_per_second: float
    last: str | None
    last_at: float | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a part of the daemon from working: a route, "kafka", "ledger", ...

    One that doesn't degrade it is only to be known.
    """

    scope: str
    text: str
    fix: str
    since: float
    degrades: bool = True


@dataclass(frozen=True, slots=True)
class Status:
    version: str
    origin: str
    pid: int
    started_at: float
    state: DaemonState
    brokers_up: int
    brokers_known: int
    producer_threads: int
    consumer_threads: int
    queue_records: int
    queue_records_max: int
    queue_bytes: int
    queue_bytes_max: int
    quarantine: int
    disk_free: int | None
    uploads: Sequence[UploadRoute]
    downloads: Sequence[DownloadRoute]
    problems: Sequence[Problem]


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


@dataclass(frozen=True, slots=True)
class WaitParameters:
    tids: Sequence[str]
    until: Until


@dataclass(frozen=True, slots=True)
class WaitReply:
    transfers: Sequence[Transfer]


@dataclass(frozen=True, slots=True)
class GetStatusParameters:
    pass


@dataclass(frozen=True, slots=True)
class GetStatusReply:
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ListParameters:
    state: State | None = None
    route: str | None = None
    limit: int


@dataclass(frozen=True, slots=True)
class ListReply:
    transfers: Sequence[Transfer]


@dataclass(frozen=True, slots=True)
class QuitParameters:
    now: bool | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class QuitReply:
    """What is left to drain; ``stopping`` is true in the last reply."""

    transfers: int
    bytes: int
    stopping: bool


@dataclass(frozen=True, slots=True)
class NotPermitted:
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Refused:
    text: str
    fix: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class NoSuchTransfer:
    text: str
    fix: str


METHODS: Mapping[str, tuple[type, type]] = {
    "Send": (SendParameters, SendReply),
    "Wait": (WaitParameters, WaitReply),
    "GetStatus": (GetStatusParameters, GetStatusReply),
    "List": (ListParameters, ListReply),
    "Quit": (QuitParameters, QuitReply),
}
ERRORS: Mapping[str, type[NotPermitted] | type[Refused] | type[NoSuchTransfer]] = {
    "NotPermitted": NotPermitted,
    "Refused": Refused,
    "NoSuchTransfer": NoSuchTransfer,
}


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
