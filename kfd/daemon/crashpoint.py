"""Named places at which a kill would matter, so that tests can be killed exactly there.

``KFD_CRASH_AT=NAME`` kills the process, as ``kill -9`` would, the first time that it comes to
``reach(NAME)``; ``NAME:N`` the N-th time. Only tests set it; unset, a place costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "KFD_CRASH_AT"


class _Target:
    """Where to die. The lock guards ``left``."""

    def __init__(self, wanted: str) -> None:
        self.name, _, count = wanted.partition(":")
        self.left = int(count or 1)
        self._lock = threading.Lock()

    def reached(self) -> None:
        with self._lock:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_target = _Target(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Die here if this is the place. Any thread."""
    if _target.name == name:
        _target.reached()
