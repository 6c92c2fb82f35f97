"""The daemon as a whole: its status, and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kfd.control.catalogue import Catalogue
from kfd.control.routes import DownloadRoute, UploadRoute


class DaemonState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    DRAINING = "draining"
    STOPPING = "stopping"


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
    quarantine_used: int
    quarantine_max: int
    disk_free: int | None
    spool_used: int
    spool_max: int
    uploads: Sequence[UploadRoute]
    downloads: Sequence[DownloadRoute]
    problems: Sequence[Problem]
    catalogues: Sequence[Catalogue] = ()


@dataclass(frozen=True, slots=True)
class GetStatusParameters:
    pass


@dataclass(frozen=True, slots=True)
class GetStatusReply:
    status: Status


@dataclass(frozen=True, slots=True)
class MetricsParameters:
    pass


@dataclass(frozen=True, slots=True)
class MetricsReply:
    """In Prometheus' text format."""

    text: str


@dataclass(frozen=True, slots=True)
class BackupParameters:
    """The descriptor of an empty file goes along."""


@dataclass(frozen=True, slots=True)
class BackupReply:
    size: int


@dataclass(frozen=True, slots=True)
class QuitParameters:
    now: bool | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What can't move now, of one route (empty: of none) and topic; why, and what to do."""

    route: str
    topic: str
    transfers: int
    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class QuitReply:
    """What is left to drain, and what of it can't move; ``stopping`` is true in the last reply."""

    transfers: int
    bytes: int
    stopping: bool
    held: Sequence[Held] = ()


METHODS: Mapping[str, tuple[type, type]] = {
    "GetStatus": (GetStatusParameters, GetStatusReply),
    "Metrics": (MetricsParameters, MetricsReply),
    "Backup": (BackupParameters, BackupReply),
    "Quit": (QuitParameters, QuitReply),
}
