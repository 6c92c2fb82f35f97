"""Whether this process has stood still: stopped by a signal, frozen with its container or its host.

For the brokers time goes on meanwhile, and a group may have thrown out a member that doesn't know
it yet. A slow disk is no standstill: other threads go on, and the client's heartbeats with them.
"""

from __future__ import annotations

import time

from kfd.daemon.stage import Stage

BEAT_SECONDS = 0.25


class Pulse(Stage):
    """Beats, and notices when it couldn't. The thread is named ``pulse``."""

    def __init__(self, limit_seconds: float) -> None:
        """A standstill is longer than ``limit_seconds``."""
        super().__init__("pulse")
        self._limit_seconds = limit_seconds
        self._noticed = 0

    @property
    def standstills(self) -> int:
        """How many there have been, the one included that has just ended. Any thread.

        Ask before and after: if the numbers differ, the process stood still in between.
        """
        late = self._is_late()  # first: if it is noticed in between, it counts twice, not never
        return late + self._noticed

    def run(self) -> None:
        while not self.stopping.wait(BEAT_SECONDS):
            if self._is_late():
                self._noticed += 1
            self.beat()

    def _is_late(self) -> bool:
        return time.monotonic() - self.last_beat > self._limit_seconds
