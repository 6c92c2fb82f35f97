"""How many bytes a second each route moves now: for people, and for what gives way to them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

WINDOW_SECONDS = 5


class Rates:
    """Bytes in one-second buckets, per (route, topic). The lock guards the buckets."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        self._lock = threading.Lock()

    def add(self, route: str, topic: str, size: int) -> None:
        """Count ``size`` bytes now. Any thread."""
        second = int(time.monotonic())
        with self._lock:
            buckets = self._buckets[route, topic]
            buckets[second] = buckets.get(second, 0) + size
            if len(buckets) > WINDOW_SECONDS + 1:
                del buckets[min(buckets)]

    def rate(self, route: str, topic: str) -> float:
        """Bytes a second over the last full seconds. Any thread."""
        second = int(time.monotonic())
        with self._lock:
            buckets = self._buckets.get((route, topic), {})
            recent = (buckets.get(second - age, 0) for age in range(1, WINDOW_SECONDS + 1))
            return sum(recent) / WINDOW_SECONDS

    def moving(self) -> bool:
        """Whether any bytes moved in the last seconds. Any thread."""
        since = int(time.monotonic()) - WINDOW_SECONDS
        with self._lock:
            return any(max(buckets) >= since for buckets in self._buckets.values() if buckets)
