"""Which routes need which topics, and for what."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who uses a topic: names of routes."""

    senders: dict[str, int] = field(default_factory=dict)  # with bytes of a chunk
    readers: dict[str, float] = field(default_factory=dict)  # with seconds that it had better keep
    told: set[str] = field(default_factory=set)  # these read receipts on it
    telling: set[str] = field(default_factory=set)  # these send receipts to it

    def copy(self) -> Wanted:
        """One that no other thread adds to."""
        return Wanted(
            self.senders.copy(), self.readers.copy(), self.told.copy(), self.telling.copy()
        )

    def __bool__(self) -> bool:
        return bool(self.routes or self.correspondents)

    @property
    def routes(self) -> set[str]:
        """Those that can't work without it."""
        return {*self.senders, *self.readers}

    @property
    def correspondents(self) -> set[str]:
        """Those that send receipts to it, or read them there."""
        return self.told | self.telling

    @property
    def chunk_size(self) -> int:
        """The largest chunk that is sent to it, in bytes; 0: nobody sends to it."""
        return max(self.senders.values(), default=0)

    @property
    def least_retention(self) -> float:
        """How long it had better keep records, in seconds; 0: nobody reads it."""
        return max(self.readers.values(), default=0.0)


class Needs:
    """Of all routes. Any thread; the lock guards ``_wanted`` and what is in it."""

    def __init__(self) -> None:
        self._wanted: dict[str, Wanted] = {}
        self._lock = threading.Lock()

    def send(self, topic: str, route: str, chunk_size: int) -> None:
        """A route sends to ``topic`` in chunks of this many bytes."""
        with self._lock:
            self._of(topic).senders[route] = chunk_size

    def read(self, topic: str, route: str, least_retention: float) -> None:
        """A route reads ``topic``, which had better keep records this long (seconds)."""
        with self._lock:
            self._of(topic).readers[route] = least_retention

    def receipts(self, topic: str, route: str, *, sending: bool) -> bool:
        """A route sends receipts to ``topic``, or reads them there; whether that is new."""
        with self._lock:
            wanted = self._of(topic)
            routes = wanted.telling if sending else wanted.told
            new = route not in routes
            routes.add(route)
            return new

    def retract(self, topic: str, route: str, *, sending: bool) -> None:
        """A route no longer sends to ``topic``, or no longer reads it."""
        with self._lock:
            wanted = self._of(topic)
            if sending:
                wanted.senders.pop(route, None)
            else:
                wanted.readers.pop(route, None)
            self._drop_unused(topic)

    def retract_receipts(self, topic: str, route: str, *, sending: bool) -> None:
        """A route no longer sends receipts to ``topic``, or no longer reads them there."""
        with self._lock:
            wanted = self._of(topic)
            (wanted.telling if sending else wanted.told).discard(route)
            self._drop_unused(topic)

    def resize(self, chunk_size: int) -> None:
        """All who send do so in chunks of this many bytes from now on."""
        with self._lock:
            for wanted in self._wanted.values():
                wanted.senders.update(dict.fromkeys(wanted.senders, chunk_size))

    def all(self) -> dict[str, Wanted]:
        """By topic, as they are now."""
        with self._lock:
            return {topic: wanted.copy() for topic, wanted in self._wanted.items()}

    def _of(self, topic: str) -> Wanted:
        return self._wanted.setdefault(topic, Wanted())

    def _drop_unused(self, topic: str) -> None:
        if not self._wanted[topic]:
            del self._wanted[topic]
