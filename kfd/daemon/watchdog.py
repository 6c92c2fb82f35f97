"""Which stages hang: what feeds systemd's watchdog, or doesn't."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from kfd.daemon.health import Health
from kfd.daemon.messageids import Message, about
from kfd.daemon.stage import Stage

log = logging.getLogger(__name__)

HUNG_SECONDS = 300.0  # without a heartbeat a stage hangs, unless a disk is known to be in trouble


def all_well(stages: Iterable[Stage], health: Health) -> bool:
    """Whether every stage shows life; one that waits for a disk in trouble need not."""
    now = time.monotonic()
    hung = [one.name for one in stages if now - one.last_beat > HUNG_SECONDS and one.alive]
    if not hung or health.has("disk", "write", "endings"):
        return True
    log.error("no sign of life from: %s", ", ".join(hung), extra=about(Message.HUNG))
    return False
