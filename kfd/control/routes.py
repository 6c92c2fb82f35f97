"""Routes: how they are doing, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
    paused_since: float | None = None


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
    paused_since: float | None = None


@dataclass(frozen=True, slots=True)
class PauseParameters:
    """All routes, where none is named; so in the others."""

    route: str | None = None


@dataclass(frozen=True, slots=True)
class PauseReply:
    """``in_flight`` are files of which records are on their way; a stream ends when it is 0."""

    routes: Sequence[str]
    in_flight: int


@dataclass(frozen=True, slots=True)
class ResumeParameters:
    route: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeReply:
    routes: Sequence[str]


@dataclass(frozen=True, slots=True)
class RescanParameters:
    route: str | None = None


@dataclass(frozen=True, slots=True)
class RescanReply:
    routes: Sequence[str]


METHODS: Mapping[str, tuple[type, type]] = {
    "Pause": (PauseParameters, PauseReply),
    "Resume": (ResumeParameters, ResumeReply),
    "Rescan": (RescanParameters, RescanReply),
}
