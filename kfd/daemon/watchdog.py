"""Which stages hang: what feeds systemd's watchdog, or doesn't."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from kfd.daemon.health import Health
from kfd.daemon.messageids import Message, about
from kfd.daemon.stage import Stage

log = logging.getLogger(__name__)

# Without a heartbeat for so long a stage hangs, unless a disk is known to be in trouble.
HUNG_SECONDS = 300.0
_LEAST_SECONDS = 30.0  # more than any stage waits rightly
_WATCHDOGS = 5  # times WatchdogSec=, where that is less than its default


def patience(watchdog: float | None) -> float:
    """Seconds after which a stage hangs; ``watchdog``: those of ``WatchdogSec=``, if it is on."""
    if watchdog is None:
        return HUNG_SECONDS
    return min(HUNG_SECONDS, max(_LEAST_SECONDS, _WATCHDOGS * watchdog))


def all_well(stages: Iterable[Stage], health: Health, patience: float = HUNG_SECONDS) -> bool:
    """Whether every stage shows life; one that waits for a disk in trouble need not."""
    now = time.monotonic()
    hung = [one.name for one in stages if now - one.last_beat > patience and one.alive]
    if not hung or health.has("disk", "write", "endings"):
        return True
    log.error("no sign of life from: %s", ", ".join(hung), extra=about(Message.HUNG))
    return False
