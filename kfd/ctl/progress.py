"""The line that tells how far transfers are that are waited for, or why they don't move."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kfd.control import State, Transfer
from kfd.ctl.render import ProgressLine, plain
from kfd.units import human_duration, human_rate

_IN_KAFKA = (State.IN_KAFKA, State.DELIVERED)
_RATE_WINDOW = 5.0  # seconds of the past that the shown rate is of


@contextmanager
def progress_of(
    files: int, size: int = 0, *, quiet: bool
) -> Iterator[Callable[[Sequence[Transfer]], None]]:
    """Shows what it is given, until the end of ``with``; ``size``: of all files, if known."""
    progress = Progress(size, files)
    line = ProgressLine()
    try:
        yield lambda transfers: None if quiet else line.show(progress.text(transfers))
    finally:
        line.clear()


def standing_still(transfers: Sequence[Transfer]) -> Transfer | None:
    """The first of those that have not ended, if there is something that keeps each from moving."""
    waiting = [one for one in transfers if not one.state.ended]
    return waiting[0] if waiting and all(one.reason for one in waiting) else None


class Progress:
    """How far transfers are, how fast, and how long they still take."""

    def __init__(self, size: int, files: int) -> None:
        self._size = size
        self._files = files
        self._seen: deque[tuple[float, int]] = deque()

    def text(self, transfers: Sequence[Transfer]) -> str:
        """`` 51%  118 MB/s  2s left   (Ctrl-C detaches)``."""
        held = standing_still(transfers)
        if len(transfers) == self._files and all(one.state in _IN_KAFKA for one in transfers):
            how = plain(held.reason) if held else "waiting for a receiver"
            return f"In Kafka; {how}   (Ctrl-C detaches)"
        self._size = max(self._size, sum(transfer.size for transfer in transfers))
        done = sum(min(transfer.done, transfer.size) for transfer in transfers)
        rate = self._rate(done)
        left = f"  {human_duration(round((self._size - done) / rate))} left" if rate >= 1 else ""
        share = 100 * done // self._size if self._size else 0
        how = plain(held.reason) if held else f"{human_rate(rate)}{left}"
        return f"{share:3}%  {how}   (Ctrl-C detaches)"

    def _rate(self, done: int) -> float:
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        return max(0, done - before) / (now - since) if now > since else 0.0
