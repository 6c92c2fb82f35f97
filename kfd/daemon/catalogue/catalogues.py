"""The sinks as they are configured, with the stages that tell them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kfd.config import Config
from kfd.config.catalogues import AnyCatalogue
from kfd.daemon.catalogue.cataloguer import Cataloguer
from kfd.daemon.catalogue.rows import Rows
from kfd.daemon.catalogue.sink import Sink
from kfd.daemon.catalogue.sinks import make_sink
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, catalogue
from kfd.daemon.stage import DeathHandler

log = logging.getLogger(__name__)

STOP_SECONDS = 2.0  # one that hangs with its database must not use up the others' time


@dataclass(frozen=True, slots=True)
class LedgerMemory:
    """What one sink remembers, in the ledger."""

    ledger: Ledger
    name: str

    def recall(self) -> str:
        return catalogue.recall(self.ledger.reader(), self.name)

    def remember(self, text: str) -> None:
        self.ledger.write_patiently(lambda db: catalogue.remember(db, self.name, text))


class Catalogues:
    """Owns the ``catalogue-NAME`` stages. :meth:`expect`, :meth:`apply` and :meth:`stop` are the
    supervisor's, then the reloader's; everything else may be called by any thread."""

    def __init__(self, ledger: Ledger, health: Health, spool: Path) -> None:
        """``spool`` is the directory of copies."""
        self._ledger = ledger
        self._health = health
        self._rows = Rows(ledger.origin, bytes(spool))
        self._stages: dict[str, tuple[AnyCatalogue, Cataloguer]] = {}

    def expect(self, config: Config) -> None:
        """Note from now on what the sinks of ``config`` are to be told, too. Nobody tells them yet,
        and none goes: it may come to nothing. Raises :class:`LedgerError`."""
        wanted = _wanted(config)
        self._ledger.write(lambda db: catalogue.expect(db, wanted))

    def apply(self, config: Config, on_death: DeathHandler) -> None:
        """Let the sinks be those of ``config``. What a sink that goes had still to be told is
        dropped. Raises :class:`LedgerError`."""
        wanted = _wanted(config)
        self._ledger.write(lambda db: catalogue.configure(db, wanted))
        stages = dict(self._stages)
        going = [
            name for name, (settings, _) in stages.items() if config.catalogue.get(name) != settings
        ]
        self._end([stages.pop(name)[1] for name in going], time.monotonic() + STOP_SECONDS)
        for name, settings in config.catalogue.items():
            if name not in stages:
                make = partial(self._make, config, name)
                stages[name] = (
                    settings, Cataloguer(name, make, self._rows, self._ledger, self._health)
                )  # fmt: skip
                stages[name][1].start(on_death)
        self._stages = stages  # replaced, never changed: others read it

    def settings(self) -> dict[str, AnyCatalogue]:
        """The sinks, by name."""
        return {name: settings for name, (settings, _) in self._stages.items()}

    def nudge(self) -> None:
        """Let all look at the outbox now, also those that wait after a failure."""
        for _, stage in self._stages.values():
            stage.nudge()

    def stop(self, deadline: float) -> None:
        """End all, by ``deadline`` (monotonic)."""
        stages = [stage for _, stage in self._stages.values()]
        self._end(stages, min(deadline, time.monotonic() + STOP_SECONDS))

    def _make(self, config: Config, name: str, stopping: threading.Event) -> Sink:
        return make_sink(
            config.catalogue[name],
            partial(config.catalogue_secret, name),
            stopping,
            LedgerMemory(self._ledger, name),
        )

    def _end(self, stages: Iterable[Cataloguer], deadline: float) -> None:
        """Stop these. One that doesn't end in time ends by itself, when its database answers or
        its patience is over; what it tells meanwhile changes nothing."""
        stages = list(stages)
        for stage in stages:
            stage.stop()
        for stage in stages:
            if not stage.join(deadline - time.monotonic()):
                log.warning("%s did not end in time", stage.name)
            self._health.clear(stage.name, "unusable")


def _wanted(config: Config) -> dict[str, str]:
    """What each sink is to be told of what is sent."""
    return {name: settings.sent for name, settings in config.catalogue.items()}
