"""Stages: the named threads that the daemon is made of.

Every thread of the daemon is a :class:`Stage` (or belongs to one). A stage ends by itself after
:meth:`Stage.stop`; if it ends in any other way, that is the end of the daemon, with the reason,
and systemd starts it again.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

DeathHandler = Callable[["Stage", BaseException], None]


class Stage(ABC):
    """A named thread with one owner (the supervisor), a heartbeat and a way to end.

    Subclasses implement :meth:`run`, call :meth:`beat` at least every few seconds, and return
    soon after ``self.stopping`` is set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = threading.Event()
        self.last_beat = time.monotonic()
        self._on_death: DeathHandler | None = None
        self._thread = threading.Thread(target=self._guarded_run, name=name, daemon=True)

    def start(self, on_death: DeathHandler) -> None:
        """Start the thread. ``on_death`` is called in it, once, if :meth:`run` raises."""
        self._on_death = on_death
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """Ask the stage to end. Returns at once; called from any thread, any number of times."""
        self.stopping.set()
        self.wake()

    def wake(self) -> None:
        """Make a thread that waits for work look at ``stopping``; the default has no such wait."""
        return

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end; true if the stage has ended."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def beat(self) -> None:
        """Say that this stage makes progress (or rightly waits). Called in its own thread."""
        self.last_beat = time.monotonic()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @abstractmethod
    def run(self) -> None:
        """The work, in the stage's own thread, until ``stopping`` is set."""

    def _guarded_run(self) -> None:
        assert self._on_death is not None
        _name_for_others(self.name)
        try:
            self.run()
        except:  # noqa: E722 - the death of a stage is the daemon's, by whatever it is
            self._on_death(self, _as_error(sys.exc_info()[1]))


def _name_for_others(name: str) -> None:
    """Let ``ps -L`` and ``top -H`` show which stage a thread is; the kernel keeps 15 bytes."""
    with suppress(OSError), open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
        comm.write(name[:15])


def _as_error(raised: object) -> BaseException:
    """What was raised. What a call of Kafka's client raises within a callback of it may come out as
    a ``KafkaError``, which is no exception, so that no ``except`` with a name takes it."""
    if isinstance(raised, BaseException):
        return raised
    return RuntimeError(f"{type(raised).__name__}: {raised}")
