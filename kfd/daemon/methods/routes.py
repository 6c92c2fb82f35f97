"""``Pause``, ``Resume`` and ``Rescan``."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.control.routes import (
    PauseParameters,
    PauseReply,
    RescanParameters,
    RescanReply,
    ResumeParameters,
    ResumeReply,
)
from kfd.daemon.methods.calls import Caller, Handlers, reply
from kfd.daemon.methods.changes import Changes
from kfd.daemon.operations import RouteOperations
from kfd.varlink import Reply

LOOK_INTERVAL = 0.2  # seconds at least between two counts of what is in flight


class RouteMethods:
    """What is asked of routes."""

    def __init__(self, operations: RouteOperations, changes: Changes) -> None:
        self._operations = operations
        self._changes = changes

    def handlers(self) -> Handlers:
        return {"Pause": self._pause, "Resume": self._resume, "Rescan": self._rescan}

    def _pause(self, parameters: PauseParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("pause routes")
        routes = self._operations.pause(parameters.route)
        shown = None
        for _ in self._changes.follow(caller, least=LOOK_INTERVAL):
            left = self._operations.in_flight(routes)
            last = not left or not caller.more
            if last or left != shown:
                shown = left
                yield reply(PauseReply(routes, left), continues=not last)
            if last:
                return

    def _resume(self, parameters: ResumeParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("let routes go on")
        yield reply(ResumeReply(self._operations.resume(parameters.route)))

    def _rescan(self, parameters: RescanParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("have directories scanned")
        yield reply(RescanReply(self._operations.rescan(parameters.route)))
