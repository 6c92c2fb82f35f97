"""A receiving daemon's life after another, and what it has said by its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import dropped
from kfd.daemon.publishing.partials import sweep
from kfd.daemon.publishing.settlement import settle
from kfd.offsets import Progress, decode
from tests.parts import ROUTE, TOPIC, TOPIC_ID, Receiving, Sent, receiving, running_ledger


@contextmanager
def life(
    directory: Path, committed: Progress | None = None, *, ledger: str = "state", at: int = 0
) -> Iterator[Receiving]:
    """A life of a daemon that reads partition 0, from what was committed (else from ``at``)."""
    with (
        running_ledger(directory / ledger) as running,
        receiving(running, directory / "data", take=False) as parts,
    ):
        settle(ROUTE, parts.destination, running)
        sweep(parts.destination, TOPIC, 0)
        offset = committed.offset if committed else at
        parts.start = parts.receiver.take(0, TOPIC_ID, offset, committed)
        yield parts


def said(parts: Receiving) -> Progress:
    """What would be committed now, as the next owner reads it."""
    progress = decode(parts.receiver.progress()[0].encode())
    assert progress is not None
    return progress


def bad(parts: Receiving) -> dict[str, int]:
    return dropped.bad_counts(parts.ledger.reader(), ROUTE)


def state(parts: Receiving, sent: Sent) -> tuple[str, str]:
    row: tuple[str, str] = (
        parts.ledger.reader()
        .execute("SELECT state, reason FROM incoming WHERE tid = ?", (sent.tid,))
        .fetchone()
    )
    return row


def at(records: list[Record], offset: int) -> list[Record]:
    return [replace(one, offset=offset + n) for n, one in enumerate(records)]


LARGE = Sent(bytes(range(40)), b"large")


SMALL = Sent(b"abc", b"small")
