"""What a download route takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """Sizes are bytes, durations seconds."""

    route: str
    topic: str
    max_size: int
    incomplete_timeout: float
    mixed: bool = False  # the peer's records, too
