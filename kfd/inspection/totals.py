"""How much of what lies on a topic, by kind and by partition."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kfd.inspection.record import Kind, Look, Record


@dataclass(slots=True)
class KindTotal:
    """Of one kind. ``begins``: first records of files; ``ends``: last ones, without aborts."""

    kind: Kind
    records: int = 0
    size: int = 0
    begins: int = 0
    ends: int = 0
    aborts: int = 0

    def add(self, look: Look, size: int) -> None:
        self.records += 1
        self.size += size
        if (header := look.header) is not None:
            self.begins += header.begin is not None
            self.ends += header.end is not None
            self.aborts += header.aborts
        elif (chunk := look.chunk) is not None:
            self.begins += chunk.index == 1
            self.ends += chunk.index == chunk.total


@dataclass(slots=True)
class PartitionTotal:
    """Of one partition. ``low`` and ``high`` are its watermarks: the first offset that it still
    has, and the one that comes next; ``start`` is where reading began."""

    partition: int
    low: int
    high: int
    start: int
    records: int = 0
    size: int = 0


@dataclass(slots=True)
class Totals:
    """All that was read. ``bad`` counts bad records by their reason."""

    topic: str
    records: int = 0
    size: int = 0
    kinds: list[KindTotal] = field(default_factory=lambda: [KindTotal(kind) for kind in Kind])
    partitions: list[PartitionTotal] = field(default_factory=list)
    bad: dict[str, int] = field(default_factory=Counter)


class Counting:
    """Totals while they grow."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self._kinds = {one.kind: one for one in totals.kinds}
        self._partitions = {one.partition: one for one in totals.partitions}

    def add(self, record: Record, look: Look) -> None:
        """A record more."""
        size = record.size
        totals = self.totals
        totals.records += 1
        totals.size += size
        partition = self._partitions[record.partition]
        partition.records += 1
        partition.size += size
        self._kinds[look.kind].add(look, size)
        if look.reason:
            totals.bad[look.reason] += 1
