"""Files for fault tests: of one chunk and of many, at once or all the time."""

from __future__ import annotations

import random

from tests.background import Background
from tests.integration.host import Host

CHUNKED = {"chunk_size": "64KiB"}
"""Settings with which the large files below are of many records."""


def load(host: Host, rng: random.Random, prefix: str, small: int, large: int) -> None:
    """Put files of one chunk and of many where they are sent from."""
    for number in range(small):
        host.put(f"{prefix}/{number % 9}/small {number}", rng.randbytes(rng.randrange(20_000)))
    for number in range(large):
        host.put(f"{prefix}/large {number}", rng.randbytes(rng.randrange(2 << 20, 8 << 20)))


class Writing(Background):
    """Somebody who goes on writing files, new ones and new versions, whatever happens."""

    def __init__(
        self, host: Host, rng: random.Random, *, pause: float = 0.05, names: int = 10**9
    ) -> None:
        """``pause``: seconds between two files; ``names``: how many there are before they are
        written anew."""
        super().__init__("writing")
        self._host = host
        self._rng = random.Random(rng.random())  # a thread's own
        self._pause = pause
        self._names = names
        self.files = 0

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            large = self.files % 50 == 49
            size = self._rng.randrange(1 << 20, 4 << 20) if large else self._rng.randrange(20_000)
            name = self.files % self._names
            self._host.put(f"written/{name % 7}/{name}", self._rng.randbytes(size))
            self.files += 1
