"""The errors that a method may answer with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where (file and line), what, and what to do."""

    place: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class WrongConfiguration:
    """All that is wrong, at once."""

    faults: Sequence[Fault]
    exit_code: int


ErrorType = type[NotPermitted | Refused | NoSuchTransfer | WrongConfiguration]

ERRORS: Mapping[str, ErrorType] = {
    "NotPermitted": NotPermitted,
    "Refused": Refused,
    "NoSuchTransfer": NoSuchTransfer,
    "WrongConfiguration": WrongConfiguration,
}
