"""The table of an SQL sink: made where it is missing, looked at where somebody has made it."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Dialect, Inspector
from sqlalchemy.types import TypeEngine

from kfd.config.catalogues import META, Columns
from kfd.daemon.catalogue.sink import Row, SinkError, value_of

KEY = ("tid", "receiver", "route")
"""The fields by which a row is known."""

_TYPES: Mapping[str, TypeEngine[Any]] = {
    "tid": sa.String(32),
    "receiver": sa.String(64),
    "route": sa.String(64),
    "path_bytes": sa.LargeBinary(),
    "size": sa.BigInteger(),
    "digest": sa.String(64),
    "origin": sa.String(64),
    "topic": sa.String(249),
    "mtime": sa.DateTime(timezone=True),
    "sent": sa.DateTime(timezone=True),
    "published": sa.DateTime(timezone=True),
    "metadata": sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
}

_LEAST, _MOST = -(2**63), 2**63 - 1  # what 64 bits hold


@dataclass(frozen=True, slots=True)
class SinkTable:
    """A table that can be written to. ``key``: its columns by which a row is known; ``unique``: the
    columns of a unique key of it that are all among them, empty if it has none."""

    table: sa.Table
    key: Sequence[str]
    unique: Sequence[str]
    _readers: Mapping[str, Callable[[Row], Any]]

    def values(self, row: Row) -> dict[str, Any]:
        """What the columns are to hold."""
        return {column: read(row) for column, read in self._readers.items()}


def open_table(connection: Connection, name: str, columns: Columns) -> SinkTable:
    """The table called ``name`` (or ``SCHEMA.NAME``), made if it isn't there. Raises
    :class:`SinkError` where it is another's and doesn't fit, and what SQLAlchemy raises."""
    schema, _, table_name = name.rpartition(".")
    inspector = sa.inspect(connection)
    if not inspector.has_table(table_name, schema=schema or None):
        _make(connection, table_name, schema or None, columns)
        inspector.clear_cache()
    found = sa.Table(table_name, sa.MetaData(), schema=schema or None, autoload_with=connection)
    _check(found, name, columns, connection.dialect)
    key = [column for column, field in columns.items() if field in KEY]
    readers = {column: _reader(field, found.c[column].type) for column, field in columns.items()}
    return SinkTable(found, key, _unique(inspector, found, key), readers)


def _make(connection: Connection, name: str, schema: str | None, columns: Columns) -> None:
    table = sa.Table(name, sa.MetaData(), schema=schema)
    for column, field in columns.items():
        table.append_column(sa.Column(column, _type(field), primary_key=field in KEY))
    table.create(connection)
    connection.commit()


def _type(field: str) -> TypeEngine[Any]:
    return _TYPES.get(field, sa.Text())


def _check(found: sa.Table, name: str, columns: Columns, dialect: Dialect) -> None:
    """Raise :class:`SinkError` unless rows can be written."""
    missing = {column: field for column, field in columns.items() if column not in found.c}
    if missing:
        quote = dialect.identifier_preparer.quote
        wanted = ", ".join(
            f"ADD COLUMN {quote(column)} {_type(field).dialect_impl(dialect).compile(dialect)}"
            for column, field in missing.items()
        )
        raise SinkError(
            f"table {name} has no column {', '.join(missing)}",
            fix=f"ALTER TABLE {name} {wanted}; or say by columns: which fields it takes",
        )
    unfilled = [
        column.name
        for column in found.c
        if column.name not in columns and _must_be_given(column, found)
    ]
    if unfilled:
        raise SinkError(
            f"table {name} wants values that kfd doesn't have: {', '.join(unfilled)}",
            fix="give these columns a default, or allow NULL in them",
        )


def _must_be_given(column: sa.Column[Any], table: sa.Table) -> bool:
    filled = column.server_default is not None or column.identity or column.computed
    return not (column.nullable or filled or column is table.autoincrement_column)


def _unique(inspector: Inspector, table: sa.Table, key: Sequence[str]) -> Sequence[str]:
    """The columns of a unique key whose columns are all of ``key``, the widest."""
    name, schema = table.name, table.schema
    keys = [inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]]
    keys += [one["column_names"] for one in inspector.get_unique_constraints(name, schema=schema)]
    keys += [
        [column for column in one["column_names"] if column is not None]
        for one in inspector.get_indexes(name, schema=schema)
        if one["unique"] and None not in one["column_names"] and not _is_partial(one)
    ]
    fitting = [columns for columns in keys if columns and set(columns) <= set(key)]
    return max(fitting, key=len, default=[])


def _is_partial(index: Mapping[str, Any]) -> bool:
    return any(option.endswith("_where") for option in index.get("dialect_options", {}))


def _reader(field: str, kind: TypeEngine[Any]) -> Callable[[Row], Any]:
    """How a field is read from a row for a column of this type."""
    convert = _converter(field, kind)
    return lambda row: None if (value := value_of(row, field)) is None else convert(value)


def _converter(field: str, kind: TypeEngine[Any]) -> Callable[[Any], Any]:  # noqa: PLR0911 - a table of types
    """From what the row says to what a column of this type takes."""
    if field == "metadata":
        return dict if isinstance(kind, sa.JSON) else _as_json
    if field in ("mtime", "sent", "published"):
        return _time_converter(kind)
    if field in ("tid", "digest") and isinstance(kind, sa.LargeBinary):
        return bytes.fromhex
    if field == "tid" and isinstance(kind, sa.Uuid):
        return uuid.UUID if kind.as_uuid else str
    if field == "size" and isinstance(kind, sa.String):
        return str
    if field.startswith(META) and isinstance(kind, sa.Integer | sa.Numeric | sa.Float):
        return _as_number
    return lambda value: value


def _time_converter(kind: TypeEngine[Any]) -> Callable[[datetime], Any]:
    if isinstance(kind, sa.Integer):
        return lambda time: int(time.timestamp())
    if isinstance(kind, sa.Numeric | sa.Float):
        return datetime.timestamp
    if isinstance(kind, sa.String):
        return datetime.isoformat
    return lambda time: time


def _as_json(value: Mapping[str, str]) -> str:
    return json.dumps(dict(value), ensure_ascii=False)


def _as_number(text: str) -> int | float | None:
    """NULL for what is none, or none that databases have: one file's metadata must not keep its row
    out."""
    try:
        return _in_range(int(text))
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _in_range(number: int) -> int | None:
    return number if _LEAST <= number <= _MOST else None
