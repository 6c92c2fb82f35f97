"""Reading the configuration again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReloadParameters:
    pass


@dataclass(frozen=True, slots=True)
class ReloadReply:
    """Routes by their full name (``uploads.scope3``), settings by their key (``queue.size``)."""

    file: str
    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    applied: Sequence[str]  # settings that hold at once
    restart: Sequence[str]  # those that hold only after a restart


METHODS: Mapping[str, tuple[type, type]] = {"Reload": (ReloadParameters, ReloadReply)}
