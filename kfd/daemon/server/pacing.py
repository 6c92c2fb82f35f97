"""How much of the processor users may take by the control socket.

Python runs one thread at a time: what a client keeps busy with questions is missing elsewhere. Each
user has an allowance of processor time, which comes back at a rate; who has used it up is answered
more slowly, for as long as he goes on.
"""

from __future__ import annotations

import os
import resource
import threading
import time

SHARE = 0.1  # of one processor, that a user may have for long
ALLOWANCE = 2.0  # seconds of it, that he may have at once: some thousand files, or questions
CONNECTION = 0.002  # seconds of it, for which a connection counts whatever is asked: a thread
LONGEST_PAUSE = 10.0  # seconds, whatever was used


class Pacing:
    """What users have used. Any thread; the lock guards ``_full_at``.

    Root and the daemon's user are never slowed down.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._full_at: dict[int, float] = {}  # monotonic; when a user's allowance is whole again

    def pause(self, uid: int, used: float, now: float) -> float:
        """How many seconds a user has to wait who has used so many of the processor's; ``now`` is
        monotonic."""
        if uid in (0, os.geteuid()):
            return 0.0
        with self._lock:
            full_at = max(now, self._full_at.get(uid, now)) + used / SHARE
            self._full_at[uid] = min(full_at, now + ALLOWANCE / SHARE + LONGEST_PAUSE)
            return max(0.0, self._full_at[uid] - now - ALLOWANCE / SHARE)


class Meter:
    """What one connection's thread uses; made and used in that thread."""

    def __init__(self, pacing: Pacing, uid: int, stopping: threading.Event) -> None:
        """``stopping`` ends any waiting."""
        self._pacing = pacing
        self._uid = uid
        self._stopping = stopping
        self._counted = _used() - CONNECTION

    def rest(self) -> None:
        """Count what was used since the last time, and wait if that was too much."""
        used = _used()
        pause = self._pacing.pause(self._uid, used - self._counted, time.monotonic())
        self._counted = used
        if pause:
            self._stopping.wait(pause)


def _used() -> float:
    """Seconds of the processor that this thread had for itself: copying by the kernel is no
    burden to others."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_utime
