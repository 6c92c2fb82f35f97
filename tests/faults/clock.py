"""A daemon's clock, that a test sets while it runs: libfaketime in front of the real one.

Only the time of day is stepped, as somebody at the console or a time server does it. The monotonic
clock and the times of files are as they are. What was waiting already isn't stepped: a real clock
that is set back also holds up a wait of librdkafka's until something comes in.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.integration.daemon import Daemon
from tests.support import unavailable

YEAR = 365  # days
_SHIM = Path(__file__).with_name("clock_shim.c")


class Clock:
    """The clock of one daemon, from its next start on."""

    def __init__(self, daemon: Daemon) -> None:
        home = daemon.config.parent
        self._file = home / "clock"
        self.step(0)
        daemon.environment |= {
            "LD_PRELOAD": f"{_library()}:{_shim(home)}",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, days: int) -> None:
        """Put it so far from the right time, ahead (positive) or behind, now."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.rename(self._file)


def _library() -> Path:
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    return found or unavailable("libfaketime is not installed (apt-get install faketime)")


def _shim(home: Path) -> Path:
    if not shutil.which("cc"):
        unavailable("no C compiler is installed (apt-get install gcc libc6-dev)")
    made = home / "clock_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, _SHIM], check=True)
    return made
