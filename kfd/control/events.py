"""Events: what happened to transfers, as it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kfd.control.transfers import Direction, State

MAX_EVENTS = 10_000  # in the first answer to Events


@dataclass(frozen=True, slots=True)
class Event:
    """A transfer came to a state."""

    at: float
    state: State
    direction: Direction
    tid: str
    route: str
    topic: str
    path: str
    path_base64: str | None
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class EventsParameters:
    limit: int
    since: float | None = None


@dataclass(frozen=True, slots=True)
class EventsReply:
    events: Sequence[Event]


METHODS: Mapping[str, tuple[type, type]] = {
    "Events": (EventsParameters, EventsReply),
}
