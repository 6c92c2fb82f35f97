"""Counts what a route has to pass over, and says so once, not once for each file."""

from __future__ import annotations

from kfd.daemon.health import Health
from kfd.paths import escape


class Tally:
    """Of one kind of things passed over. A health problem from the first of them on, with their
    number after every full scan, and over when a full scan finds none.
    """

    def __init__(self, health: Health, scope: str, key: str, text: str, fix: str) -> None:
        self._health = health
        self._problem = (scope, key)
        self._text = text
        self._fix = fix
        self._example = ""
        self._shown = False
        self.count = 0

    def note(self, path: bytes, reason: str) -> None:
        if not self.count:
            self._example = f"{escape(path)}: {reason}"
        self.count += 1
        if not self._shown:
            self._report()

    def restart(self) -> None:
        """A full scan begins."""
        self.count = 0

    def conclude(self) -> None:
        """A full scan has ended."""
        if self.count:
            self._report()
        else:
            self._health.clear(*self._problem)
            self._shown = False

    def _report(self) -> None:
        self._health.report(
            *self._problem, f"{self._text}: {self.count}, such as {self._example}", self._fix
        )
        self._shown = True
