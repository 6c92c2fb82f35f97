"""Transfers: where they are, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_LISTED = 10_000  # transfers in one answer to List
MAX_CONDITIONS = 16  # on the metadata, in one List


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
    reason: str  # why it ended so; in answers to Wait and Show also why it doesn't move
    fix: str
    queued_at: float | None
    ended_at: float | None
    successor: str | None  # the tid that took over
    receipts: bool = True  # whether its receivers confirm it; openmsistream's don't


@dataclass(frozen=True, slots=True)
class WaitParameters:
    tids: Sequence[str]
    until: Until


@dataclass(frozen=True, slots=True)
class WaitReply:
    transfers: Sequence[Transfer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListParameters:
    """``name`` is a pattern: ``*`` ``?`` ``[...]``, for the path or, where it has no ``/``, for its
    last component. ``since`` and ``until`` are of when a transfer ended, or else was queued."""

    state: State | None = None
    route: str | None = None
    limit: int
    name: str | None = None
    since: float | None = None
    until: float | None = None
    meta: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ListReply:
    """``complete`` is false where older transfers were not looked at."""

    transfers: Sequence[Transfer]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Details:
    """All else that is known of a transfer; what an upload or a download doesn't have is null.

    ``source`` is the file that is sent, ``name`` what was published in the route's directory.
    ``tries`` counts how often receivers have refused it, ``receivers`` are those that have it.
    """

    generation: int
    mtime: float
    mode: int | None
    meta: Mapping[str, str]
    digest: str | None
    source: str | None
    name: str | None
    user: str | None
    topic_id: str | None
    partition: int | None
    first_offset: int | None
    chunk_size: int | None
    begun_at: float | None
    in_kafka_at: float | None
    resend_at: float | None
    tries: int
    receivers: Sequence[str]
    predecessor: str | None


@dataclass(frozen=True, slots=True)
class ShowParameters:
    tid: str
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    transfer: Transfer
    details: Details


@dataclass(frozen=True, slots=True)
class ShowReply:
    """``others``: what routes of this host have received of what it has sent, or several of them
    have received."""

    transfer: Transfer
    details: Details
    others: Sequence[Shown] = ()


@dataclass(frozen=True, slots=True)
class CancelParameters:
    tid: str


@dataclass(frozen=True, slots=True)
class CancelReply:
    transfer: Transfer


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transfer of which something was asked that can't be done, and why not."""

    tid: str
    path: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class RetryParameters:
    """Either transfers by their ids, or all that failed: of a route, if it is given."""

    tids: Sequence[str] | None = None
    failed: bool | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True)
class RetryReply:
    """``transfers`` are those that are sent again, each with its successor."""

    transfers: Sequence[Transfer]
    refused: Sequence[Refusal]


METHODS: Mapping[str, tuple[type, type]] = {
    "Wait": (WaitParameters, WaitReply),
    "List": (ListParameters, ListReply),
    "Show": (ShowParameters, ShowReply),
    "Cancel": (CancelParameters, CancelReply),
    "Retry": (RetryParameters, RetryReply),
}
