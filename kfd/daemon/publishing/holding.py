"""Content that is whole and couldn't be published is held in ``.kfd/quarantine``.

It is durable before the ledger says that it is held, and gets its place after that. Killed in
between, it is still a partial, which :func:`keep` then moves; what lies there and isn't held by the
ledger is of no more use to anybody.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import Ledger, quarantine
from kfd.daemon.publishing.destination import Destination, PartKey
from kfd.daemon.publishing.partials import DiskError, Partials


@dataclass(slots=True)
class Bounds:
    """What all routes together may hold, and how long it is remembered. May be set by any
    thread."""

    size: int = 10 * 2**30  # bytes: ``quarantine_max``
    history: float = 90 * 86400.0  # seconds


def make_durable(partials: Partials, destination: Destination, keys: Sequence[PartKey]) -> None:
    """Before partials are said to be held. Raises :class:`OSError` and :class:`DiskError`."""
    for key in keys:
        try:
            os.fchmod(partials.descriptor(key), 0o600)
        except OSError as error:  # it is gone, or can't be used: it is read again
            raise DiskError(error, destination.directory, key) from error
        partials.sync(key)
    if keys:
        destination.sync_private()
    reach("quarantine.durable")


def put_away(destination: Destination, keys: Iterable[PartKey]) -> None:
    """Give partials that are held their place; those that have it already are fine.

    Raises :class:`OSError`.
    """
    moved = [destination.hold(key) for key in keys]
    reach("quarantine.moved")
    if any(moved):
        destination.sync_quarantine()


def keep(
    route: str, destination: Destination, ledger: Ledger, partitions: Container[int] | None = None
) -> None:
    """Give partials that the ledger holds their place, which a kill or a disk kept from it.

    Those of these partitions, or of all. Raises :class:`DiskError`.
    """
    try:
        keys = [
            key for key in destination.parts() if partitions is None or key.partition in partitions
        ]
        if keys:
            held = quarantine.held(ledger.reader(), route)
            put_away(destination, [key for key in keys if key in held])
    except OSError as error:
        raise DiskError(error, destination.directory) from error
