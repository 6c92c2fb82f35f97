"""Where the daemon is in its life: starting, at work, draining, stopping. ``status`` shows it."""

from __future__ import annotations

import threading

from kfd.control import DaemonState

_ORDER = (
    DaemonState.STARTING,
    DaemonState.RUNNING,
    DaemonState.DRAINING,
    DaemonState.STOPPING,
)


class Life:
    """Goes forward only: whoever stops it while it drains isn't contradicted. Any thread.

    The lock guards ``_reached``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reached = DaemonState.STARTING

    def reach(self, state: DaemonState) -> None:
        """One of starting, running, draining, stopping; no news if it is past that."""
        with self._lock:
            self._reached = max(self._reached, state, key=_ORDER.index)

    def state(self, *, degraded: bool) -> DaemonState:
        """As people are told it: at work it may be degraded."""
        with self._lock:
            reached = self._reached
        if reached is DaemonState.RUNNING and degraded:
            return DaemonState.DEGRADED
        return reached

    @property
    def ending(self) -> bool:
        """Whether nothing new is taken any more."""
        with self._lock:
            return self._reached in (DaemonState.DRAINING, DaemonState.STOPPING)
