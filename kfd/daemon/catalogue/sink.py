"""What a sink is given, what it promises, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from kfd.config.catalogues import META
from kfd.errors import KfdError

Value: TypeAlias = "str | bytes | int | datetime | Mapping[str, str] | None"


@dataclass(frozen=True, slots=True)
class Row:
    """One file, as a catalogue is told of it. ``tid``, ``receiver`` and ``route`` together tell one
    row from every other. Its fields are those that a sink's ``columns`` may name.

    Text is safe to show: names are escaped (:func:`kfd.paths.escape`), nothing holds a NUL. Times
    are in UTC; None where there is none, or none that a calendar has.
    """

    tid: str  # 32 hex digits
    receiver: str  # the origin of the kfd that published it; empty: it was sent, or added by hand
    route: str
    name: str  # the last component of the path
    path: str  # as it was sent: relative, with /
    path_bytes: bytes  # the same as it is
    stored: str  # where it lies: below the download's directory, or the file that was sent or added
    size: int  # bytes
    digest: str  # BLAKE3, 64 hex digits; empty: not known
    origin: str  # of the kfd that sent it
    topic: str  # empty: it was added by hand
    mtime: datetime | None
    sent: datetime | None  # when this version was accepted to be sent, by the sender's clock
    published: datetime | None  # when it got its name here; None: see receiver
    metadata: Mapping[str, str]


def value_of(row: Row, field: str) -> Value:
    """What a column is to hold of a row: a field of it, or a value of its metadata (``meta.KEY``;
    None where it has none)."""
    if field.startswith(META):
        return row.metadata.get(field.removeprefix(META))
    value: Value = getattr(row, field)
    return value


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that will never be taken as it is. The reason is for people, and holds no secret."""

    row: Row
    reason: str


class SinkError(KfdError):
    """The sink can't be used now, or not before somebody mends it: what it was given doesn't count
    as written, and is given to it again later. The text is for people, and holds no secret."""

    retry = True


class Sink(Protocol):
    """One catalogue elsewhere. Made and used in one thread, ``catalogue-NAME``.

    Whatever it waits for is bounded by time (20 s at most
    for one answer), and ends soon after the event ``stopping``, which it is made with, is set, but
    for what the operating system does by itself (names, connecting).
    """

    batch: int
    """So many rows at most are given to it at once."""

    def open(self) -> None:
        """Connect, and look at the table, or make it. Once, before anything is written. Raises
        :class:`SinkError`."""
        ...

    def write(self, rows: Sequence[Row]) -> Sequence[Refused]:
        """Write rows, durably; those that are refused for good come back, all others are written.

        Rows may come again that were written before, as after a kill: that changes nothing. Raises
        :class:`SinkError` where rows have to be tried again; some may have been written.
        """
        ...

    def close(self) -> None:
        """Let go of connections. Raises nothing."""
        ...
