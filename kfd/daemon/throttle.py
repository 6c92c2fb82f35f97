"""What is said once a minute, however often it happens."""

from __future__ import annotations

import threading
import time

LOG_SECONDS = 60.0  # between log lines of one reason


class Throttle:
    """Lets one line of each reason and interval into the log. Any thread: those of a route, or of
    the control server, share one.

    The lock guards ``_logged_at``, which has one entry for each reason.
    """

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}  # monotonic
        self._lock = threading.Lock()

    def passes(self, reason: str) -> bool:
        """Whether it is time to log something of this reason."""
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at.get(reason, -LOG_SECONDS) < LOG_SECONDS:
                return False
            self._logged_at[reason] = now
            return True
