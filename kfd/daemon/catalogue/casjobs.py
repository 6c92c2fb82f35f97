"""The catalogue in CasJobs: rows into a table of a context, usually a user's own ``MyDB``."""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from kfd.config.catalogues import CasJobsCatalogue
from kfd.daemon.catalogue.casjobs_rest import QueryError, Service
from kfd.daemon.catalogue.casjobs_table import Statements
from kfd.daemon.catalogue.exchange import Caller
from kfd.daemon.catalogue.halving import Blame, Halving
from kfd.daemon.catalogue.memory import Memory
from kfd.daemon.catalogue.sink import Refused, Row, SinkError

log = logging.getLogger(__name__)

_STATEMENT: Final = 48 * 1024  # characters of rows in one; what a server takes is not documented

# What SQL Server says where it is the row that is wrong, whenever it is tried.
_ROW_IS_WRONG: Final = re.compile(
    r"would be truncated|conversion failed|error converting"
    r"|overflow|out-of-range value|conflicted with the|duplicate key"
    r"|(primary|unique) key constraint|index entry of length|exceeds the maximum length"
    r"|incorrect syntax|unclosed quotation mark",
    re.IGNORECASE,
)
# What it says where the same would be taken at another time.
_PASSES: Final = re.compile(
    r"time-?out|timed out|deadlock|could not allocate|is full|not enough|insufficient|out of memory"
    r"|quota|disk|connection|network|shut ?down|read-?only|offline|is being",
    re.IGNORECASE,
)
# What it says where the table isn't what it was when it was looked at.
_TABLE_CHANGED: Final = re.compile(
    r"invalid (object|column) name|already an object named|cannot drop the table", re.IGNORECASE
)


class CasJobsSink:
    """Writes rows by quick queries, each far below the minute that such a one may take. See
    :class:`kfd.daemon.catalogue.sink.Sink`.

    With ``recreate`` the table is dropped and made again once: when it is opened for the first time
    after that was switched on, or after the place, the table or its columns were changed.
    ``memory`` holds what it was done for, so that a restart doesn't do it again. A kill between the
    two does: nothing was written meanwhile.
    """

    batch = 100

    def __init__(
        self,
        settings: CasJobsCatalogue,
        secret: Callable[[], str],
        stopping: threading.Event,
        memory: Memory,
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._stopping = stopping
        self._memory = memory
        self._statements = Statements(settings.table, settings.columns)
        self._open: Service | None = None  # once the table is known to be there

    def open(self) -> None:
        self._opened()

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        """All but those that come back are in the table. Where it has no column for the tid, what
        is tried again after an answer was lost may be in it twice."""
        service = self._open or self._opened()
        halving = Halving[tuple[Row, str]](
            lambda piece: self._put(service, piece), _blame, takes_others=lambda _: None
        )
        wrong = halving.put(self._pieces(self._statements.distinct(rows)))
        return [Refused(row, _reason(error)) for (row, _), error in wrong]

    def close(self) -> None:
        self._open = None

    def _opened(self) -> Service:
        service = Service(self._settings, self._secret, Caller(self._stopping, self._tls()))
        self._prepare(service)
        self._open = service
        return service

    def _tls(self) -> ssl.SSLContext:
        ca = self._settings.ca
        try:
            return ssl.create_default_context(cafile=None if ca is None else str(ca))
        except OSError as error:
            why = error.strerror or "no certificate"
            fix = "write certificates in PEM into it, readable for kfd"
            raise SinkError(f"ca: not usable: {why}", where=str(ca), fix=fix) from None

    def _prepare(self, service: Service) -> None:
        """Let there be the table, with the columns that are configured."""
        found = {str(row[0]).casefold() for row in service.query(self._statements.look()) if row}
        again = self._settings.recreate and self._memory.recall() != self._place()
        if found and again:
            service.query(self._statements.drop())
            log.warning("catalogue %s: table %s dropped, as configured (recreate)",
                        self._settings.name, self._settings.table)  # fmt: skip
        if again or not found:
            service.query(self._statements.create())
        else:
            self._check(found)
        self._note_recreated()

    def _note_recreated(self) -> None:
        done = self._place() if self._settings.recreate else ""
        if self._memory.recall() != done:
            self._memory.remember(done)

    def _place(self) -> str:
        """What a table was made again for."""
        of = self._settings
        return json.dumps([of.rest, of.context, of.table, of.columns])

    def _check(self, found: set[str]) -> None:
        missing = [name for name in self._settings.columns if name.casefold() not in found]
        if missing:
            raise SinkError(
                f"table {self._settings.table} is there, without {', '.join(missing)}",
                where=f"{self._settings.rest}, {self._settings.context}",
                fix=f"run {self._statements.add(missing)} in CasJobs, or write another table:,"
                " the columns: that it has, or recreate: true, which drops it",
            )

    def _pieces(self, rows: Sequence[Row]) -> Iterator[list[tuple[Row, str]]]:
        """The rows, written, as many as go into one statement."""
        piece: list[tuple[Row, str]] = []
        length = 0
        for row in rows:
            values = self._statements.values(row)
            if piece and length + len(values) > _STATEMENT:
                yield piece
                piece, length = [], 0
            piece.append((row, values))
            length += len(values)
        if piece:
            yield piece

    def _put(self, service: Service, piece: Sequence[tuple[Row, str]]) -> None:
        """A statement is done whole or not at all."""
        try:
            service.query(self._statements.insert(values for _, values in piece))
        except QueryError as error:
            raise self._explained(error) from None

    def _explained(self, error: QueryError) -> SinkError:
        if _TABLE_CHANGED.search(error.said) is None:
            return error
        self._open = None  # look at the table again
        return SinkError(
            f"table {self._settings.table} isn't what it was: {error.said}",
            where=error.where,
            fix="nothing, if it was dropped: it is made again; else correct columns:",
        )


def _blame(error: Exception) -> Blame:
    if not isinstance(error, QueryError):
        return Blame.ELSE
    if error.status == 413 or _ROW_IS_WRONG.search(error.said):
        return Blame.ROWS
    unclear = error.status == 500 and error.said and not _PASSES.search(error.said)
    return Blame.UNCLEAR if unclear else Blame.ELSE


def _reason(error: Exception) -> str:
    assert isinstance(error, QueryError)
    return error.what
