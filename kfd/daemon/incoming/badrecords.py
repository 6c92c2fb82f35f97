"""What is counted of the records that aren't used, between two writes to the ledger."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from kfd.daemon.ledger.dropped import BadRecord
from kfd.daemon.throttle import Throttle
from kfd.wire import Reason

log = logging.getLogger(__name__)


@dataclass(slots=True)
class BadRecords:
    """Dropped records since the ledger was told. Of one thread."""

    route: str
    topic: str
    throttle: Throttle
    _counts: Counter[str] = field(default_factory=Counter)
    _last: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(
        self, reason: Reason, partition: int, offset: int, detail: str = "", count: int = 1
    ) -> None:
        """Count records, the last of which is at ``offset``, and log it now and then."""
        self._counts[reason] += count
        self._last[reason] = (partition, offset)
        if self.throttle.passes(reason):
            level = logging.DEBUG if reason is Reason.DUPLICATE else logging.WARNING
            log.log(
                level, "%s: record %s[%d]@%d not used: %s%s",
                *(self.route, self.topic, partition, offset, reason),
                f" ({detail})" if detail else "",
            )  # fmt: skip

    def take(self) -> list[BadRecord]:
        """What was counted; counting begins anew."""
        taken = [
            BadRecord(reason, count, self.topic, *self._last[reason])
            for reason, count in self._counts.items()
        ]
        self._counts.clear()
        self._last.clear()
        return taken
