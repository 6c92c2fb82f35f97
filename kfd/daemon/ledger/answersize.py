"""How much one answer may hold: there may be many rows, and names of 4 KiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from kfd.errors import KfdError

MAX_NAMES: Final = 4 * 1024 * 1024  # bytes; some twelve times that while the answer is made

Row = TypeVar("Row", bound=tuple[Any, ...])


def bounded(rows: Iterable[Row], name: int) -> Iterator[Row]:
    """The rows, the names of which stand in this column.

    Raises :class:`KfdError` where these are too long together.
    """
    size = 0
    for row in rows:
        size += len(row[name])
        if size > MAX_NAMES:
            raise KfdError("their names are too long for one answer", fix="ask for fewer at once")
        yield row
