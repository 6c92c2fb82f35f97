"""Rows into a table of any database that SQLAlchemy knows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from kfd.config.catalogues import SqlCatalogue
from kfd.config.secrets import HIDDEN
from kfd.daemon.catalogue.patience import at_most
from kfd.daemon.catalogue.sink import Refused, Row, SinkError
from kfd.daemon.catalogue.sqltable import SinkTable, open_table

# What this driver would say of a connection that is lost comes as an error, too.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 10
ANSWER_SECONDS = 20.0
_LONGEST_REASON = 500  # characters
_BEYOND_LIMITS = "54"  # the class of SQLSTATE: as of a value that no row of an index can hold

_POSTGRESQL: Mapping[str, object] = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "kfd",
    "client_encoding": "utf8",  # the server says which text it can't keep, not the driver
    # what somebody has locked must not hold kfd up for ever, nor be held up by it
    "options": f"-c statement_timeout={int(ANSWER_SECONDS * 1000)} -c timezone=UTC",
    "keepalives_idle": 30,
    "tcp_user_timeout": int(ANSWER_SECONDS * 1000),
}
_MYSQL: Mapping[str, object] = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": int(ANSWER_SECONDS),
    "write_timeout": int(ANSWER_SECONDS),
}
# How a driver is told to give up: what it knows of itself. Others are bounded by patience.py.
_BOUNDS: Mapping[str, Mapping[str, object]] = {
    "psycopg": _POSTGRESQL,
    "psycopg2": _POSTGRESQL,
    "pymysql": _MYSQL,
    "pysqlite": {"timeout": CONNECT_SECONDS},
}


class SqlSink:
    """A table. Rows are known by the columns of tid, receiver and route that it has."""

    batch = 1000

    def __init__(
        self, settings: SqlCatalogue, secret: Callable[[], str], stopping: threading.Event
    ) -> None:
        """``secret`` gives the password; empty: the one in the URL, if any."""
        self._settings = settings
        self._secret = secret
        self._stopping = stopping
        self._password = ""
        self._connection: Connection | None = None
        self._table: SinkTable | None = None

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        try:
            connection, table = self._opened()
            return self._write(connection, table, rows)
        except SinkError:
            raise
        except Exception as error:  # noqa: BLE001 - a driver may raise what it likes
            raise self._unusable(error) from None

    def close(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                self._connection.invalidate()  # asks the server nothing: it may hang
                self._connection.close()
            self._connection = None

    def _opened(self) -> tuple[Connection, SinkTable]:
        if self._connection is not None and self._table is not None:
            return self._connection, self._table
        with ExitStack() as bounds:
            connection = self._connection or self._connect(bounds)
            self._bound(connection.connection.driver_connection, bounds)
            return connection, self._open(connection)

    def _connect(self, bounds: ExitStack) -> Connection:
        url = sa.make_url(self._settings.url.text)
        self._password = self._secret() or url.password or ""
        if self._password:
            url = url.set(password=self._password)
        engine = sa.create_engine(
            url,
            poolclass=NullPool,
            pool_reset_on_return=None,  # connections are never given back to be used again
            hide_parameters=True,
            connect_args=dict(_BOUNDS.get(url.get_driver_name(), {})),
        )
        # SQLAlchemy asks the server some questions before it gives the connection
        sa.event.listen(
            engine, "connect", lambda driver, _: self._bound(driver, bounds), insert=True
        )
        self._connection = engine.connect()
        return self._connection

    def _bound(self, driver: object, bounds: ExitStack) -> None:
        """Let a connection answer in time from now on, until ``bounds`` are left."""
        bounds.enter_context(at_most(ANSWER_SECONDS, _socket_of(driver), self._stopping))

    def _open(self, connection: Connection) -> SinkTable:
        self._table = open_table(connection, self._settings.table, self._settings.columns)
        connection.rollback()  # what was looked at needs no transaction any longer
        return self._table

    def _write(
        self, connection: Connection, table: SinkTable, rows: Sequence[Row]
    ) -> Sequence[Refused]:
        """Write rows in one transaction; if some can't be, all in halves, to tell which. Each
        transaction is bounded by itself: where many rows are refused there are many."""
        try:
            self._transact(connection, table, rows)
        except Exception as error:
            if connection.closed or connection.invalidated or not _is_the_rows(error):
                raise
            if len(rows) == 1:
                return [Refused(rows[0], self._said(error))]
            half = len(rows) // 2
            first = self._write(connection, table, rows[:half])
            return [*first, *self._write(connection, table, rows[half:])]
        return []

    def _transact(self, connection: Connection, table: SinkTable, rows: Sequence[Row]) -> None:
        if self._stopping.is_set():
            raise SinkError("kfd is stopping", fix="the rows are written after the next start")
        with ExitStack() as bounds:
            self._bound(connection.connection.driver_connection, bounds)
            with connection.begin():
                _insert(connection, table, rows)

    def _unusable(self, error: Exception) -> SinkError:
        what = self._said(error)
        if isinstance(error, ModuleNotFoundError | exc.NoSuchModuleError):
            return SinkError(what, fix=how_to_install(self._settings.url.text))
        if isinstance(error, exc.ProgrammingError):
            return SinkError(what, fix=f"see to the table {self._settings.table} and its rights")
        return SinkError(what, fix=f"look at {self._settings.url.shown()}; it is tried again")

    def _said(self, error: Exception) -> str:
        """What a driver says, on one line, without what must not be shown."""
        cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
        # PostgreSQL's own sentence, without the values of the whole row that come after it
        primary = getattr(getattr(cause, "diag", None), "message_primary", None)
        text = " ".join(str(primary or cause).split()) or type(cause).__name__
        for secret in {self._password, self._settings.url.text} - {""}:
            text = text.replace(secret, HIDDEN)
        return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def how_to_install(url: str) -> str:
    """How to get what a URL needs."""
    driver = url.partition(":")[0]
    if driver.startswith("postgresql"):
        return "write postgresql+psycopg://..., and: pip install 'kfd[sql]'"
    return f"install the driver of {driver}: see SQLAlchemy's list of dialects"


def _is_the_rows(error: Exception) -> bool:
    """Whether other rows would have been taken: then it is a row that is wrong, for good."""
    if isinstance(error, exc.DBAPIError):
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        beyond = str(code or "").startswith(_BEYOND_LIMITS)
        return beyond or isinstance(error, exc.DataError | exc.IntegrityError)
    # what SQLAlchemy, or the driver, can't make a value of a column's type of
    return isinstance(error, exc.StatementError | OverflowError | UnicodeError)


def _socket_of(driver: Any) -> int | None:
    """The descriptor of the socket under a driver's connection, where it tells it."""
    try:
        return int(driver.fileno())
    except Exception:  # noqa: BLE001 - it has none, or says so in its own way
        return None


def _insert(connection: Connection, table: SinkTable, rows: Sequence[Row]) -> None:
    """Insert what isn't there. Raises what SQLAlchemy raises."""
    values = [table.values(row) for row in rows]
    insert = _insert_unless_there(connection.dialect.name, table)
    if insert is None:
        values = _new(connection, table, values)
        insert = sa.insert(table.table)
    if values:
        connection.execute(insert, values)


def _insert_unless_there(dialect: str, table: SinkTable) -> Any:
    """A statement that does nothing for a row that is there; None where there is none."""
    if not table.unique:
        return None
    if dialect == "postgresql":
        return postgresql.insert(table.table).on_conflict_do_nothing(index_elements=table.unique)
    if dialect == "sqlite":
        return sqlite.insert(table.table).on_conflict_do_nothing(index_elements=table.unique)
    return None


def _new(
    connection: Connection, table: SinkTable, values: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Those of which no row is there, each once."""
    columns = [table.table.c[name] for name in (table.unique or table.key)]
    names = [column.name for column in columns]
    new = {tuple(one[name] for name in names): one for one in values}
    first = columns[0]
    found = sa.select(*columns).where(first.in_({one[first.name] for one in values}))
    for row in connection.execute(found):
        new.pop(tuple(row), None)
    return list(new.values())
