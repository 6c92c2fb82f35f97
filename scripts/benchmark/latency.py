"""From the close of a file to its publication, one file after the other."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from scripts.benchmark.process import BenchmarkError

SIZE = 1 << 20  # bytes
WARM_UP = 3  # files that aren't counted
_LOOK_SECONDS = 0.002
_LONGEST_PAUSE = 0.1  # seconds; of random length, so that no timer is met in step
_GIVE_UP_SECONDS = 120.0


def latencies(watched: Path, published: Path, count: int) -> list[float]:
    """Seconds for each of ``count`` files."""
    pauses = random.Random(1)
    seconds = []
    for number in range(WARM_UP + count):
        time.sleep(pauses.uniform(0, _LONGEST_PAUSE))
        content = os.urandom(SIZE)
        name = f"f{number:05}.bin"
        (watched / name).write_bytes(content)
        seconds.append(_until_whole(published / name, content))
    return seconds[WARM_UP:]


def _until_whole(path: Path, content: bytes) -> float:
    """Until all of it can be read there, not just a name or a length."""
    closed = time.perf_counter()
    while not _is_whole(path, content):
        if time.perf_counter() - closed > _GIVE_UP_SECONDS:
            raise BenchmarkError(f"{path} was not published in {_GIVE_UP_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)
    return time.perf_counter() - closed


def _is_whole(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False
