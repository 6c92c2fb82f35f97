"""The stages that dispose of delivered files, one for each upload route that wants it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from kfd.config import Upload
from kfd.config.values import KEEP
from kfd.daemon.context import Context
from kfd.daemon.disposal.disposal import Identity
from kfd.daemon.disposal.thereafter import Thereafter
from kfd.daemon.ledger import disposals
from kfd.daemon.stage import DeathHandler

log = logging.getLogger(__name__)

STOP_SECONDS = 2.0  # one that hangs on a dead share must not use up the others' time


class Disposing:
    """Owns the ``then-ROUTE`` stages. Not thread-safe: the supervisor's, then the reloader's."""

    def __init__(
        self, context: Context, identity_of: Callable[[str], Callable[[], Identity | None]]
    ) -> None:
        """``identity_of`` a route tells which directory is watched for it now."""
        self._context = context
        self._identity_of = identity_of
        self._stages: dict[str, tuple[Upload, Thereafter]] = {}

    def apply(self, routes: Mapping[str, Upload], on_death: DeathHandler) -> list[str]:
        """Go by these routes from now on. Returns those that a stage which hangs with a share
        still serves as they were: two may not touch the same files."""
        owed = disposals.routes(self._context.ledger.reader())
        wanted = {
            name: route for name, route in routes.items() if route.then != KEEP or name in owed
        }
        going = [name for name in self._stages if not self._goes_on(name, wanted)]
        hanging = self._end(going, time.monotonic() + STOP_SECONDS)
        for name, route in wanted.items():
            if name not in self._stages:
                stage = Thereafter(route, self._context, self._identity_of(name))
                self._stages[name] = (route, stage)
                stage.start(on_death)
        return hanging

    def stop(self, deadline: float) -> None:
        """End all, by ``deadline`` (monotonic)."""
        self._end(list(self._stages), deadline)

    def _goes_on(self, name: str, wanted: Mapping[str, Upload]) -> bool:
        old, stage = self._stages[name]
        new = wanted.get(name)
        return (
            new is not None
            and not stage.stopping.is_set()
            and (old.then, old.directory) == (new.then, new.directory)
        )

    def _end(self, names: list[str], deadline: float) -> list[str]:
        """Stop these; the names of those that don't end."""
        for name in names:
            self._stages[name][1].stop()
        hanging = []
        for name in names:
            stage = self._stages[name][1]
            if stage.join(deadline - time.monotonic()):
                del self._stages[name]
            else:
                log.warning("%s did not end in time", stage.name)
                hanging.append(name)
        return hanging
