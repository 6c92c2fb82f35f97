"""Making many looks at once, each in a thread of its own and with a deadline: one that hangs, on a
dead share or a silent name server, is told of like any other fault, and holds nothing up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kfd.control.examination import Check
from kfd.errors import KfdError
from kfd.examination.checks import failed, wrong

AT_ONCE = 8
SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Look:
    """One look, which gives one check or several. ``hung``: what to do if it never ends."""

    name: str
    run: Callable[[], Iterable[Check]]
    seconds: float = SECONDS
    hung: str = "look at what it needs: a share, a disk, the name service"


class Rounds:
    """Makes looks. A thread that hangs (``doctor-NAME``) is kept account of: the same look is not
    begun again while it does, so there are never more threads than looks. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _hanging
        self._hanging: dict[str, threading.Thread] = {}

    def make(self, looks: Sequence[Look]) -> Iterator[Check]:
        """The checks, in the order of the looks, each as soon as those before it are there."""
        under_way: list[_Running] = []
        waiting = list(looks)
        while under_way or waiting:
            while waiting and sum(one.busy for one in under_way) < AT_ONCE:
                under_way.append(self._begin(waiting.pop(0)))
            first = under_way[0]
            if first.wait(0.1):
                yield from self._result(under_way.pop(0))

    def _begin(self, look: Look) -> _Running:
        with self._lock:
            thread = self._hanging.get(look.name)
            if thread is not None and thread.is_alive():
                return _Running(look, thread, still=True)
            self._hanging.pop(look.name, None)
        running = _Running(look, None)
        running.thread.start()
        return running

    def _result(self, one: _Running) -> Iterable[Check]:
        if one.checks is not None:
            return one.checks
        with self._lock:
            self._hanging[one.look.name] = one.thread
        still = "still " if one.still else ""
        text = f"{still}no answer after {one.look.seconds:g} s: it hangs"
        return [wrong(one.look.name, text, one.look.hung)]


class _Running:
    """A look that was begun."""

    def __init__(
        self, look: Look, hanging: threading.Thread | None, *, still: bool = False
    ) -> None:
        self.look = look
        self.still = still
        self.checks: list[Check] | None = None
        self._deadline = time.monotonic() + (0 if still else look.seconds)
        self._done = threading.Event()
        self.thread = hanging or threading.Thread(
            target=self._run, name=f"doctor-{look.name}", daemon=True
        )

    @property
    def busy(self) -> bool:
        """Whether it takes one of the places."""
        return not self._done.is_set() and time.monotonic() < self._deadline

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, or its time is over, after so many seconds at most."""
        left = self._deadline - time.monotonic()
        return self._done.wait(max(0.0, min(seconds, left))) or left <= seconds

    def _run(self) -> None:
        try:
            checks = list(self.look.run())
        except KfdError as error:
            checks = [failed(self.look.name, error)]
        except OSError as error:
            checks = [wrong(self.look.name, f"{error.strerror or error}", self.look.hung)]
        except Exception as error:  # noqa: BLE001 - a bug in one look is no end of the others
            text = f"a bug in this check: {type(error).__name__}: {error}"
            checks = [wrong(self.look.name, text, "report it; the other checks are not affected")]
        self.checks = checks
        self._done.set()
