"""``Events``."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.control.events import MAX_EVENTS, Event, EventsParameters, EventsReply
from kfd.daemon.methods.calls import Caller, Handlers, reply
from kfd.daemon.methods.changes import Changes
from kfd.daemon.methods.longanswers import LongAnswers
from kfd.daemon.operations import EventOperations
from kfd.marshal import MismatchError
from kfd.varlink import Reply

LOOK_INTERVAL = 0.2  # seconds at least between two looks for one who follows


class EventMethods:
    """What happened, and what happens."""

    def __init__(self, operations: EventOperations, changes: Changes, long: LongAnswers) -> None:
        self._operations = operations
        self._long = long
        self._changes = changes

    def handlers(self) -> Handlers:
        return {"Events": self._events}

    def _events(self, parameters: EventsParameters, caller: Caller) -> Iterator[Reply]:
        if not 0 <= parameters.limit <= MAX_EVENTS:
            raise MismatchError("limit", f"0 to {MAX_EVENTS} is expected")
        news = self._operations.follow() if caller.more else None  # before, so that none is missed
        limit, since = parameters.limit, parameters.since or 0.0
        with self._long.room(limit, caller):
            latest = self._operations.latest(limit, since) if limit else []
            yield reply(EventsReply(latest), continues=caller.more)
        if news is None:
            return
        told = {(one.tid, one.state) for one in latest}
        fresh: list[Event] = []
        for _ in self._changes.follow(caller, least=LOOK_INTERVAL):
            fresh = fresh or [one for one in news() if (one.tid, one.state) not in told]
            with self._long.room(len(fresh), caller, begun=True) as found:
                if fresh and found:
                    yield reply(EventsReply(fresh), continues=True)
                    fresh = []
