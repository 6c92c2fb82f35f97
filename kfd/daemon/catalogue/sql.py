"""Rows into a table of any database that SQLAlchemy knows."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from kfd.config.catalogues import SqlCatalogue
from kfd.daemon.catalogue.halving import Blame, Halving
from kfd.daemon.catalogue.patience import at_most
from kfd.daemon.catalogue.sink import Refused, Row, SinkError
from kfd.daemon.catalogue.sqltable import SinkTable, open_table
from kfd.databasefaults import how_to_install
from kfd.errors import KfdError

# What this driver would say of a connection that is lost comes as an error, too.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

T = TypeVar("T")

CONNECT_SECONDS = 10
ANSWER_SECONDS = 20.0
_LONGEST_REASON = 500  # characters
_BEYOND_LIMITS = "54"  # the class of SQLSTATE: as of a value that no row of an index can hold
# Those of connections, read-only transactions, deadlocks, space, locks, administrators, files of
# the server, foreign servers, and what is general (MySQL's lock waits and full tables).
_WHATEVER_THE_ROWS = ("08", "25", "40", "53", "55", "57", "58", "F0", "HV", "HY", "XX")
_ROLLS_BACK = ("postgresql", "sqlite")  # whatever was written

_NOTHING_SAID: Mapping[str, Any] = {
    "name": "kfd", "path": "kfd", "path_bytes": b"kfd", "stored": "kfd", "size": 1, "metadata": {},
}  # fmt: skip

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
        self._taken: Row | None = None  # the last that was, or was there already

    def open(self) -> None:
        self._safely(self._opened)

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        return self._safely(lambda: self._write(*self._opened(), rows))

    def _safely(self, operation: Callable[[], T]) -> T:
        try:
            return operation()
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

        def put(piece: Sequence[Row]) -> None:
            self._transact(connection, table, piece)
            self._taken = piece[-1]

        halving = Halving(
            put,
            lambda error: _blame(connection, error),
            lambda row: self._takes_others(connection, table, row),
        )
        return [Refused(row, self._said(error)) for row, error in halving.put([rows])]

    def _takes_others(self, connection: Connection, table: SinkTable, than: Row) -> bool | None:
        """Whether it takes one like that which it took last, or one made up that says nothing;
        None where that isn't told. Nothing of it stays. Each is new to it: of what is there nothing
        would be inserted."""
        if connection.dialect.name not in _ROLLS_BACK:
            return None
        answers = [
            self._takes(connection, table, replace(one, tid=secrets.token_hex(16)))
            for one in (self._taken, replace(than, **_NOTHING_SAID))
            if one is not None
        ]
        return True if True in answers else None if None in answers else False

    def _takes(self, connection: Connection, table: SinkTable, row: Row) -> bool | None:
        """None if it is this row that is wrong, as one whose name is there already may be."""
        try:
            self._transact(connection, table, [row], keep=False)
        except Exception as error:
            blame = _blame(connection, error)
            if blame is Blame.ELSE:
                raise
            return None if blame is Blame.ROWS else False
        return True

    def _transact(
        self, connection: Connection, table: SinkTable, rows: Sequence[Row], *, keep: bool = True
    ) -> None:
        if self._stopping.is_set():
            raise SinkError("kfd is stopping", fix="the rows are written after the next start")
        with ExitStack() as bounds:
            self._bound(connection.connection.driver_connection, bounds)
            with connection.begin() as transaction:
                _insert(connection, table, rows)
                if not keep:
                    _check_deferred(connection)
                    transaction.rollback()

    def _unusable(self, error: Exception) -> SinkError:
        if isinstance(error, KfdError):  # the password can't be read
            return SinkError(error.what, where=error.where, fix=error.fix)
        what = self._said(error)
        if isinstance(error, ModuleNotFoundError | exc.NoSuchModuleError):
            return SinkError(what, fix=how_to_install(self._settings.url))
        if isinstance(error, exc.ProgrammingError) and self._connection is not None:
            return SinkError(what, fix=f"see to the table {self._settings.table} and its rights")
        return SinkError(what, fix=f"look at {self._settings.url.shown()}; it is tried again")

    def _said(self, error: Exception) -> str:
        """What a driver says, on one line, without what must not be shown."""
        cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
        # PostgreSQL's own sentence, without the values of the whole row that come after it
        primary = getattr(getattr(cause, "diag", None), "message_primary", None)
        text = " ".join(str(primary or cause).split()) or type(cause).__name__
        if isinstance(cause, UnicodeError) and self._connection is None:
            text = "the address or the password isn't text that the driver takes"  # it would quote
        text = self._settings.url.hide(text, self._password)
        return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _blame(connection: Connection, error: Exception) -> Blame:
    if connection.closed or connection.invalidated or isinstance(error, SinkError):
        return Blame.ELSE
    if isinstance(error, exc.DBAPIError):
        return _blame_by_database(error)
    # what SQLAlchemy, or the driver, can't make a value of a column's type of
    unfit = isinstance(error, exc.StatementError | OverflowError | UnicodeError)
    return Blame.ROWS if unfit else Blame.ELSE


def _blame_by_database(error: exc.DBAPIError) -> Blame:
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
    if state.startswith(_WHATEVER_THE_ROWS):
        return Blame.ELSE
    if state.startswith(_BEYOND_LIMITS) or isinstance(error, exc.DataError | exc.IntegrityError):
        return Blame.ROWS
    # as by triggers, policies and views
    return Blame.UNCLEAR if state or isinstance(error, exc.ProgrammingError) else Blame.ELSE


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


def _check_deferred(connection: Connection) -> None:
    """What would be checked only when it is kept."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))


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
