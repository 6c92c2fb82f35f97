"""Quarantine: what arrived and couldn't be published, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quarantined:
    """``held``: its content is kept; else ``note`` says why not."""

    tid: str
    route: str
    topic: str
    origin: str
    path: str
    path_base64: str | None
    size: int
    reason: str
    at: float
    held: bool
    note: str


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would come of a release now: a name below the route's directory, or a refusal."""

    name: str | None
    refused: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuarantineParameters:
    route: str | None = None
    limit: int


@dataclass(frozen=True, slots=True)
class ListQuarantineReply:
    """The newest first. ``used`` are the bytes of all contents, of which ``limit`` are kept."""

    entries: Sequence[Quarantined]
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class ShowQuarantinedParameters:
    tid: str
    route: str | None = None


@dataclass(frozen=True, slots=True)
class ShowQuarantinedReply:
    """``told`` is what its sender was told, ``file`` where the content is."""

    entry: Quarantined
    mtime: float
    digest: str | None
    meta: Mapping[str, str]
    file: str | None
    told: str
    release: Prospect


@dataclass(frozen=True, slots=True)
class ReleaseParameters:
    """``to``: another name than its own, below the route's directory."""

    tid: str
    route: str | None = None
    to: str | None = None
    to_base64: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    entry: Quarantined
    name: str


@dataclass(frozen=True, slots=True)
class PurgeParameters:
    """Either entries by their tids, or all (of a route), or all older than so many seconds."""

    tids: Sequence[str] | None = None
    route: str | None = None
    all: bool | None = None
    older_than: float | None = None


@dataclass(frozen=True, slots=True)
class PurgeReply:
    """How many entries are gone, and the bytes of their contents."""

    entries: int
    size: int


METHODS: Mapping[str, tuple[type, type]] = {
    "ListQuarantine": (ListQuarantineParameters, ListQuarantineReply),
    "ShowQuarantined": (ShowQuarantinedParameters, ShowQuarantinedReply),
    "Release": (ReleaseParameters, ReleaseReply),
    "Purge": (PurgeParameters, PurgeReply),
}
