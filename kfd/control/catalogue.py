"""Catalogues: databases elsewhere that are told of files, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kfd.control.sending import File


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One of them. ``waiting`` and ``refused`` are counted up to 100,000; ``again``: it is being
    told of everything once more."""

    name: str
    kind: str
    waiting: int
    refused: int
    written: int
    written_at: float | None
    again: bool


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that a catalogue has refused for good."""

    catalogue: str
    tid: str
    path: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one file that was added: its tid, or why there is none."""

    tid: str | None
    path: str
    size: int
    digest: str | None
    refused: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class ListCataloguesParameters:
    """``limit``: at most so many refused rows are shown."""

    limit: int
    catalogue: str | None = None


@dataclass(frozen=True, slots=True)
class ListCataloguesReply:
    catalogues: Sequence[Catalogue]
    refused: Sequence[RefusedRow]


@dataclass(frozen=True, slots=True)
class AddToCatalogueParameters:
    files: Sequence[File]
    catalogue: str | None = None
    meta: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AddToCatalogueReply:
    files: Sequence[Added]


@dataclass(frozen=True, slots=True)
class WaitForCatalogueParameters:
    """For files that were added; whole tids."""

    tids: Sequence[str]
    catalogue: str | None = None


@dataclass(frozen=True, slots=True)
class WaitForCatalogueReply:
    """``waiting`` are the tids that are still to be written somewhere."""

    waiting: Sequence[str]
    refused: Sequence[RefusedRow]


@dataclass(frozen=True, slots=True)
class RetryCatalogueParameters:
    """``all``: what the ledger knows of everything, not only what was refused."""

    catalogue: str | None = None
    all: bool | None = None


@dataclass(frozen=True, slots=True)
class RetryCatalogueReply:
    """``rows`` that were refused, counted up to 100,000 of each, are tried again."""

    catalogues: Sequence[str]
    rows: int


METHODS: Mapping[str, tuple[type, type]] = {
    "ListCatalogues": (ListCataloguesParameters, ListCataloguesReply),
    "AddToCatalogue": (AddToCatalogueParameters, AddToCatalogueReply),
    "WaitForCatalogue": (WaitForCatalogueParameters, WaitForCatalogueReply),
    "RetryCatalogue": (RetryCatalogueParameters, RetryCatalogueReply),
}
