"""Many rows in one statement.

Each statement gives Python's global lock away and has to get it back from a dozen other threads,
which costs more than the row does. So rows go to SQLite in groups; the few sizes of a group keep
the connection's cache of prepared statements small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from sqlite3 import Connection
from typing import Any, TypeVar

T = TypeVar("T")

_SIZES = (64, 8, 1)
PLACE = "{rows}"
"""Where a statement's text wants the rows."""


def execute(writer: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Run a statement whose ``VALUES`` are at :data:`PLACE`; what it returns, if it does."""
    returned: list[Any] = []
    for group in groups(rows):
        text = _filled(statement, len(group), len(group[0]))
        returned += writer.execute(text, [value for row in group for value in row])
    return returned


def select(
    reader: Connection, statement: str, first: Sequence[Any], values: Sequence[Any]
) -> list[Any]:
    """Rows of a query that looks for ``values`` with ``IN`` at :data:`PLACE`, its last parameter;
    ``first`` are the ones before."""
    found: list[Any] = []
    for group in groups(values):
        found += reader.execute(_filled(statement, 1, len(group)), [*first, *group])
    return found


def groups(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """``rows`` in pieces of a few sizes."""
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@cache
def _filled(statement: str, rows: int, width: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return statement.replace(PLACE, ", ".join([row] * rows))
