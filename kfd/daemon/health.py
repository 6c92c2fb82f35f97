"""What keeps parts of the daemon from working now: reported by stages, shown by ``status``."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from kfd.control import Problem
from kfd.daemon.messageids import Message, about

log = logging.getLogger(__name__)

SENDING = "sending"  # the key of what keeps files of a route from being sent


@dataclass(slots=True)
class Health:
    """The problems that are known now. Stages report and clear them; the server reads them.

    The lock guards ``_problems``; it is never held while logging or calling out.
    """

    _problems: dict[tuple[str, str], Problem] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, scope: str, key: str, text: str, fix: str = "") -> None:
        """Note a problem, or change its text; logged when it is new or different."""
        self._put(scope, key, text, fix, degrades=True)

    def note(self, scope: str, key: str, text: str, fix: str = "", *, logged: bool = False) -> None:
        """As :meth:`report`, for what is shown, but keeps nothing from working. ``logged``: the
        log says it already."""
        self._put(scope, key, text, fix, degrades=False, logged=logged)

    def _put(
        self, scope: str, key: str, text: str, fix: str, *, degrades: bool, logged: bool = False
    ) -> None:
        with self._lock:
            old = self._problems.get((scope, key))
            if old is not None and (old.text, old.fix) == (text, fix):
                return
            since = old.since if old is not None else time.time()
            self._problems[scope, key] = Problem(scope, text, fix, since, degrades)
        if logged:
            return
        told = about(Message.DEGRADED if degrades else None, route=scope)
        log.warning("%s: %s%s", scope, text, f" (fix: {fix})" if fix else "", extra=told)

    def clear(self, scope: str, key: str) -> None:
        """The problem is over; logged if it was there."""
        with self._lock:
            old = self._problems.pop((scope, key), None)
        if old is not None:
            told = about(Message.RECOVERED if old.degrades else None, route=scope)
            log.info("%s: recovered from: %s", scope, old.text, extra=told)

    def has(self, *keys: str) -> bool:
        """Whether there is a problem that was reported under one of these keys."""
        with self._lock:
            return any(key in keys for _, key in self._problems)

    def first(self, scope: str, *keys: str) -> Problem | None:
        """The oldest problem of a scope: of those under these keys, else of those that degrade."""
        with self._lock:
            found = [
                problem
                for (of, key), problem in self._problems.items()
                if of == scope and (key in keys if keys else problem.degrades)
            ]
        return min(found, key=lambda problem: problem.since, default=None)

    @property
    def degraded(self) -> bool:
        """Whether something doesn't work as it should."""
        return any(problem.degrades for problem in self.problems())

    def problems(self) -> list[Problem]:
        return list(self.by_key().values())

    def by_key(self) -> dict[tuple[str, str], Problem]:
        """The problems by scope and key, the oldest first."""
        with self._lock:
            return dict(sorted(self._problems.items(), key=lambda one: one[1].since))
