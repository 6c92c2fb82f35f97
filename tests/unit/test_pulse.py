"""A process that is stopped notices it, at once when it goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Self

from tests.support import CHECKOUT, eventually

LIMIT = 2.0  # seconds
# Answers each line with the number of standstills, in a thread that isn't the pulse's.
CHILD = f"""
import sys
from kfd.daemon.incoming.pulse import Pulse

pulse = Pulse({LIMIT})
pulse.start(lambda stage, error: sys.exit(str(error)))
for line in sys.stdin:
    print(pulse.standstills, pulse._is_late(), flush=True)
pulse.stop()
assert pulse.join(5)
"""


class Child:
    """A process with a pulse; ended with the block."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe, text=True, cwd=CHECKOUT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def standstills(self) -> int:
        return self._ask()[0]

    def standstills_while_it_beats(self) -> int:
        """Not while it has just been kept waiting by others: that would be one standstill."""
        count, late = self._ask()
        while late:
            count, late = self._ask()
        return count

    def _ask(self) -> tuple[int, bool]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        count, late = self.process.stdout.readline().split()
        return int(count), late == "True"

    def stand_still(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)  # the standstill itself, not a wait
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        self.process.communicate()
        return self.process.returncode


def test_standstill_is_noticed_at_once_and_once() -> None:
    with Child() as child:
        for _ in range(2):
            before = child.standstills_while_it_beats()
            child.stand_still(1.5 * LIMIT)
            assert child.standstills() > before
            eventually(lambda before=before: child.standstills() == before + 1)
        assert child.end() == 0
