"""The statements that CasJobs is given: look at the table, make it, drop it, put rows into it.

Each is one statement on one line, so that it is done whole or not at all, and so that nothing on
the way that cuts batches at lines (``GO``) can cut it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from kfd.daemon.catalogue.sink import Row, value_of
from kfd.daemon.catalogue.tsql import binary, identifier, literal, moment, qualified

# What together tells one row from every other, as far as the table has columns for it.
_KEY: Final = ("tid", "receiver", "route")

# Upper and lower case differ in names of hosts and routes, whatever the database is set to.
_EXACT: Final = "COLLATE Latin1_General_BIN2"
_TEXT: Final = "NVARCHAR(MAX)"
_TYPES: Final[Mapping[str, str]] = {
    "tid": f"NVARCHAR(32) {_EXACT}",
    "receiver": f"NVARCHAR(64) {_EXACT}",
    "route": f"NVARCHAR(64) {_EXACT}",
    "name": "NVARCHAR(1020)",  # 255 bytes, each shown in up to four characters
    "path": _TEXT,
    "path_bytes": "VARBINARY(1024)",
    "stored": _TEXT,
    "size": "BIGINT",
    "digest": "NVARCHAR(64)",
    "origin": "NVARCHAR(64)",
    "topic": "NVARCHAR(249)",
    "mtime": "DATETIME2(6)",
    "sent": "DATETIME2(6)",
    "published": "DATETIME2(6)",
    "metadata": _TEXT,
}


class Statements:
    """Those of one table. ``columns``: which field of a row each holds."""

    def __init__(self, table: str, columns: Mapping[str, str]) -> None:
        self.columns = columns
        self.key = _key(columns)
        self._table = qualified(table)
        self._name = table

    def look(self) -> str:
        """Its columns, a row each; none if there is no table."""
        schema, _, name = self._name.rpartition(".")
        owner = literal(schema) if schema else "SCHEMA_NAME()"
        whose = f"TABLE_SCHEMA = {owner} AND TABLE_NAME = {literal(name)}"
        return f"SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE {whose}"  # noqa: S608 - quoted

    def drop(self) -> str:
        return f"DROP TABLE {self._table}"

    def create(self) -> str:
        lines = [self._column(column, field) for column, field in self.columns.items()]
        if self.key:
            lines.append(f"PRIMARY KEY ({_names(self.key)})")
        return f"CREATE TABLE {self._table} ({', '.join(lines)})"

    def add(self, columns: Iterable[str]) -> str:
        """What gives the table these, as people may run it."""
        kinds = {column: _TYPES.get(field, _TEXT) for column, field in self.columns.items()}
        wanted = ", ".join(f"{identifier(column)} {kinds[column]} NULL" for column in columns)
        return f"ALTER TABLE {self._table} ADD {wanted}"

    def _column(self, column: str, field: str) -> str:
        kind = _TYPES.get(field, _TEXT)
        return f"{identifier(column)} {kind} {'NOT NULL' if column in self.key else 'NULL'}"

    def values(self, row: Row) -> str:
        """One row, as :meth:`insert` takes it."""
        return f"({', '.join(_written(row, field) for field in self.columns.values())})"

    def insert(self, values: Iterable[str]) -> str:
        """Put in those that aren't there. The locks keep two that do it at once apart; without a
        column for the tid there is nothing to know them by, and all are put in."""
        names = _names(self.columns)
        source = f"(VALUES {', '.join(values)}) AS v ({names})"
        wanted = ", ".join(f"v.{identifier(column)}" for column in self.columns)
        into = f"INSERT INTO {self._table} ({names}) SELECT {wanted} FROM {source}"  # noqa: S608 - quoted
        return f"{into} WHERE NOT EXISTS ({self._same()})" if self.key else into

    def _same(self) -> str:
        match = " AND ".join(
            f"t.{identifier(column)} = v.{identifier(column)}" for column in self.key
        )
        return f"SELECT 1 FROM {self._table} AS t WITH (UPDLOCK, HOLDLOCK) WHERE {match}"  # noqa: S608 - quoted

    def distinct(self, rows: Sequence[Row]) -> list[Row]:
        """The rows without repetitions of one."""
        if not self.key:
            return list(rows)
        fields = [self.columns[column] for column in self.key]
        return list({tuple(value_of(row, field) for field in fields): row for row in rows}.values())


def _key(columns: Mapping[str, str]) -> tuple[str, ...]:
    """The columns by which a row is known again; none without one for the tid."""
    fields = {field: column for column, field in reversed(list(columns.items()))}
    return tuple(fields[field] for field in _KEY if field in fields) if "tid" in fields else ()


def _names(columns: Iterable[str]) -> str:
    return ", ".join(map(identifier, columns))


def _written(row: Row, field: str) -> str:
    value = value_of(row, field)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return binary(value)
    if isinstance(value, datetime) or _TYPES.get(field, _TEXT).startswith("DATETIME2"):
        assert not isinstance(value, str | Mapping)
        return moment(value)
    if isinstance(value, Mapping):
        return literal(json.dumps(dict(value), ensure_ascii=False, sort_keys=True))
    return "NULL" if value is None else literal(value)
