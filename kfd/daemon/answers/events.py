"""Answers about what happens to transfers: from the ledger, and what is being put together."""

from __future__ import annotations

import time
from collections.abc import Callable

from kfd.control import Direction, State
from kfd.control.events import Event
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.ledger import Ledger, events
from kfd.paths import to_json
from kfd.transfer import OpenTransfer

ROWS_AT_ONCE = 2000  # of each stream; one that follows is behind by the rest


class EventAnswers:
    """The last events, and those that follow."""

    def __init__(self, ledger: Ledger, downloads: Downloads) -> None:
        self._ledger = ledger
        self._downloads = downloads

    def latest(self, limit: int, since: float) -> list[Event]:
        return [_shown(one) for one in events.latest(self._ledger.reader(), limit, since)]

    def follow(self) -> Callable[[], list[Event]]:
        follower = events.Follower(self._ledger.reader())
        known = set(self._receiving())

        def news() -> list[Event]:
            nonlocal known
            now = self._receiving()
            begun = [_begun(*now[key]) for key in now.keys() - known]
            known = set(now)
            read = follower.read(self._ledger.reader(), ROWS_AT_ONCE)
            return begun + [_shown(one) for one in read]

        return news

    def _receiving(self) -> dict[tuple[str, bytes], tuple[str, OpenTransfer]]:
        """What is being put together, which no ledger knows: (route, tid) → route, transfer."""
        return {(route, one.tid): (route, one) for route, one in self._downloads.receiving()}


def _shown(one: events.Event) -> Event:
    text, encoded = to_json(one.path)
    return Event(
        *(one.at, one.state, one.direction, one.tid.hex(), one.route, one.topic),
        *(text, encoded, one.size, one.reason),
    )


def _begun(route: str, one: OpenTransfer) -> Event:
    begin = one.begin
    text, encoded = to_json(begin.path)
    return Event(
        *(time.time(), State.RECEIVING, Direction.DOWNLOAD, one.tid.hex(), route, begin.topic),
        *(text, encoded, begin.size, ""),
    )
