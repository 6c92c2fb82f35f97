"""What the metrics are made of. Nothing is counted for them while files move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kfd.control import Status
from kfd.daemon.ledger.queries import Tally


@dataclass(frozen=True, slots=True)
class Measured:
    """A snapshot of the daemon."""

    status: Status
    tallies: Sequence[Tally]
    ledger_size: int  # bytes on disk
