"""The stage that tells one sink what the ledger's outbox holds for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from kfd.daemon import journal
from kfd.daemon.catalogue.rows import Rows
from kfd.daemon.catalogue.sink import Sink
from kfd.daemon.crashpoint import reach
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, LedgerError, catalogue, cataloguing
from kfd.daemon.ledger.catalogue import Entry
from kfd.daemon.stage import Stage
from kfd.errors import KfdError

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.2  # between two looks at the outbox: what ended meanwhile goes together
FIRST_PAUSE = 1.0  # seconds, after a failure; doubled after each that follows
LONGEST_PAUSE = 60.0
AGAIN_PAGE = 2000  # rows put into the outbox at once, of those that it is to be told again

SinkMaker = Callable[[threading.Event], Sink]


class Cataloguer(Stage):
    """Named ``catalogue-NAME``. Hangs with a database that hangs, and holds nobody else up."""

    def __init__(
        self, sink_name: str, make: SinkMaker, rows: Rows, ledger: Ledger, health: Health
    ) -> None:
        """``make`` gives a sink that ends its waits with the event."""
        super().__init__(f"catalogue-{sink_name}")
        self._sink_name = sink_name
        self._make = make
        self._rows = rows
        self._ledger = ledger
        self._health = health
        self._sink: Sink | None = None
        self._news = threading.Event()  # somebody waits for it: no pause

    def nudge(self) -> None:
        """Look now, and try again at once what had failed. Any thread."""
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    def run(self) -> None:
        seen, pause = 0, FIRST_PAUSE
        try:
            while not self.stopping.is_set():
                self.beat()
                try:
                    more = self._pass()
                except LedgerError:
                    return  # it is being stopped; rows that were written are written again
                except Exception as error:  # noqa: BLE001 - a catalogue never stops the daemon
                    self._give_up(self._told(error), pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                pause = FIRST_PAUSE
                if not more:
                    seen = self._ledger.wait_for_change(seen, 1.0)
                    self._wait(LINGER_SECONDS)
        finally:
            self._let_go()
            self._ledger.close_reader()

    def _pass(self) -> bool:
        """Write what is in the outbox; whether there may be more now."""
        number = catalogue.sink_id(self._ledger.reader(), self._sink_name)
        if number is None:  # it has just been removed
            return False
        limit = self._opened().batch
        entries, void = catalogue.waiting(self._ledger.reader(), number, limit)
        if void:
            self._note(partial(catalogue.drop, sink=number, keys=void))
        if entries:
            self._write(number, entries)
        if not self.stopping.is_set():
            self._health.clear(self.name, "unusable")
        if len(entries) == limit:
            return True
        if cataloguing.is_told_again(self._ledger.reader(), number):
            self._note(partial(cataloguing.go_on_again, sink=number, limit=AGAIN_PAGE))
            return True
        return False

    def _opened(self) -> Sink:
        """The sink, its table looked at: what is wrong with it is told before there is a row."""
        if self._sink is None:
            self._sink = self._make(self.stopping)
            self._sink.open()
        return self._sink

    def _write(self, number: int, entries: list[Entry]) -> None:
        assert self._sink is not None
        rows = [self._rows.of(entry) for entry in entries]
        keys = {id(row): entry.key for row, entry in zip(rows, entries, strict=True)}
        refused = [(keys[id(one.row)], one.reason) for one in self._sink.write(rows)]
        reach("catalogue.written")
        if self.stopping.is_set():  # the name may be another's by now: written again, by him too
            return
        told = partial(catalogue.written, sink=number, keys=list(keys.values()), refused=refused)
        self._note(told)
        if refused:
            log.warning("%s: %d rows refused for good: %s", self.name, len(refused), refused[0][1])

    def _note(self, operation: Callable[..., object]) -> None:
        self._ledger.write_patiently(operation)

    def _told(self, error: Exception) -> KfdError:
        """The error as people are told of it; one that nobody expected is logged with its place."""
        if isinstance(error, KfdError):
            return error
        journal.bug(log, self.name, error)
        what = f"{type(error).__name__}: {error}"
        return KfdError(what, fix="report it, with the line of the log that says where it happened")

    def _give_up(self, error: KfdError, pause: float) -> None:
        """Say what is wrong, and begin anew after a while."""
        self._let_go()
        if self.stopping.is_set():
            return
        self._health.report(
            self.name, "unusable", f"it can't be written: {error}",
            error.fix or "it is tried again",
        )  # fmt: skip
        self._wait(pause)

    def _wait(self, seconds: float) -> None:
        self._news.wait(seconds)
        self._news.clear()

    def _let_go(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None
