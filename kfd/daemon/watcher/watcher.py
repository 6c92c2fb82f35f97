"""The stage that finds an upload route's files: first watch, then scan, then wait till they settle.

Whatever inotify doesn't tell, the scans find: what was there before, what came while kfd was down
or before a new directory was watched, what was lost when the kernel's queue overflowed.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Final, Literal

from kfd.daemon.fileversion import FileSink
from kfd.daemon.health import Health
from kfd.daemon.stage import Stage
from kfd.daemon.watcher.inotify import TreeWatch, WatchLimitReached
from kfd.daemon.watcher.intake import BATCH, Intake
from kfd.daemon.watcher.root import Root, RootProblem
from kfd.daemon.watcher.scans import Scan, Scans
from kfd.daemon.watcher.signs import Heard, Sign, Signs
from kfd.daemon.watcher.sweep import walk
from kfd.selection import Selection

log = logging.getLogger(__name__)

WatchMode = Literal["auto", "inotify", "poll"]

_CHECK_EVERY: Final = 2.0  # seconds between two looks at the directory itself
_SCAN_EVERY: Final = 3600.0  # seconds between two full scans of a watched directory
_RETRY_EVERY: Final = 300.0  # the same, after one that could not look everywhere
_SETTLE_WATCHED: Final = 3.0  # seconds
_SETTLE_POLLED: Final = 30.0
_WATCHES_TO_SUGGEST: Final = 524_288


class Watcher(Stage):
    """Finds what settles in the directory of the upload route ``route`` and gives it to the sink.

    ``poll_every`` and ``settle`` are seconds; ``settle`` is 3 by default, 30 where the directory
    is polled. ``ready`` is set once the directory is watched or known to be away; the first scan
    may take long after that.
    """

    def __init__(
        self,
        route: str,
        directory: Path,
        selection: Selection,
        sink: FileSink,
        health: Health,
        *,
        watch: WatchMode = "auto",
        poll_every: float = 10.0,
        settle: float | None = None,
    ) -> None:
        super().__init__(f"watcher-{route}")
        self.ready = Event()
        self._route = route
        self._mode = watch
        self._poll_every = poll_every
        self._settle = settle
        self._health = health
        self._root = Root(directory)
        self._present = False
        self._check_due = 0.0  # monotonic seconds
        self._intake = Intake(route, self._root, selection, sink, health)
        self._scans = Scans(self._scan, self._scan_interval)
        self._signs = Signs()
        self._watch: TreeWatch | None = None  # None: polled, or the directory is away
        self._limit: WatchLimitReached | None = None  # why it is polled though it should not be

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the directory that is watched; None while it is away. Any thread."""
        return self._root.identity

    @property
    def compares_inodes(self) -> bool:
        """Whether device and inode tell files apart in this directory. Any thread."""
        return self._intake.inodes

    def rescan(self) -> None:
        """Ask for a full scan. Returns at once; called from any thread."""
        self._signs.rescan()

    def look_again(self, path: bytes) -> None:
        """This file (a wire path) changed while it was read: send it when it stands still.

        Returns at once; called from any thread.
        """
        self._signs.file(path, Sign.CHANGED)

    def wake(self) -> None:
        self._signs.wake()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.beat()
                self._turn()
                self._signs.wait(self._pause())
        finally:
            self._scans.abandon()
            self._unwatch()

    def _turn(self) -> None:
        """A little of all that is to be done, so that nothing waits for the end of a scan."""
        try:
            self._check_directory()
            heard = self._signs.take(BATCH)
            if self._present:
                self._follow(heard)
                self._advance_scans()
                self._intake.look_at_candidates()
        except WatchLimitReached as limit:
            self._fall_back(limit)
        except RootProblem:  # since the last look: look now, which tells the reason
            self._check_due = 0.0

    def _pause(self) -> float:
        """Seconds for which there is nothing to do unless a sign comes."""
        dues = [self._check_due]
        if self._present:
            dues += [self._intake.next_due(), math.inf if self._intake.full else self._scans.due()]
        return max(0.0, min(dues) - time.monotonic())

    # The directory itself

    def _check_directory(self) -> None:
        now = time.monotonic()
        if now < self._check_due:
            return
        self._check_due = now + _CHECK_EVERY
        try:
            another = self._root.find()
            if another:
                self._leave()
            if another or self._watch_is_lost():
                self._watch_anew()
        except RootProblem as problem:
            self._lose_directory(problem)
        else:
            self._health.clear(self._route, "directory")

    def _lose_directory(self, problem: RootProblem) -> None:
        self._present = False
        self._leave()
        self._unwatch()
        self._health.report(self._route, "directory", problem.what, problem.fix)
        self.ready.set()

    def _leave(self) -> None:
        """Let go of the directory: what is there when it is back, or in the next, is scanned."""
        self._scans.abandon()
        self._intake.forget_candidates()

    # Watching it, or polling

    def _watch_is_lost(self) -> bool:
        if self._watch is not None:
            return not self._watch.alive
        return self._limit is not None and self._limit.lifted()

    def _watch_anew(self) -> None:
        """Watch all, or poll, and scan all."""
        self._unwatch()
        self._scans.ask_for_all()
        self._present = True
        remote = self._root.network
        self._intake.inodes = not (remote or self._mode == "poll")
        if self._mode == "poll" or (remote and self._mode == "auto"):
            self._poll()
        else:
            self._watch_all()
        self._limit = None
        self._health.clear(self._route, "watch")

    def _poll(self) -> None:
        self._intake.settle = _SETTLE_POLLED if self._settle is None else self._settle
        self.ready.set()
        log.info("%s: polling %s every %g s", self._route, self._root.shown, self._poll_every)

    def _watch_all(self) -> None:
        self._intake.settle = _SETTLE_WATCHED if self._settle is None else self._settle
        self._watch = TreeWatch(self.name, self._root.path, self._signs)
        try:
            self._watch.add(b"")
        except OSError as error:
            raise self._root.lost(error) from error
        self.ready.set()
        log.info("%s: watching %s", self._route, self._root.shown)
        self._watch_below(b"")

    def _fall_back(self, limit: WatchLimitReached) -> None:
        """Poll what cannot be watched, until it can."""
        self._unwatch()
        self._limit = limit
        self._health.report(
            self._route,
            "watch",
            f"the limit of watches is reached; polling {self._root.shown}"
            f" every {self._poll_every:g} s",
            f"sysctl -w {limit.setting}={max(2 * limit.value, _WATCHES_TO_SUGGEST)}",
        )
        self._poll()
        self._scans.ask_for_all()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _watch_below(self, top: bytes) -> None:
        with self._root.opened() as descriptor:
            for seen, _ in enumerate(walk(descriptor, top, self._enter, lambda *_: None)):
                if seen % BATCH == 0:
                    self.beat()

    def _enter(self, directory: bytes) -> bool:
        """Whether a directory is to be listed; it is watched before that."""
        if self.stopping.is_set() or not self._intake.enters(directory):
            return False
        if self._watch is not None:
            with suppress(OSError):  # it is gone, or the scan will tell that it can't be read
                self._watch.add(directory)
        return True

    # Signs and scans

    def _follow(self, heard: Heard) -> None:
        if heard.lost:
            log.warning("%s: changes came too fast; scanning again", self._route)
            self._watch_anew()
        elif self._watch is not None:
            self._watch.forget(heard.left)
            for directory in heard.directories:
                self._watch_below(directory)
                self._scans.ask_for(directory)
        if heard.rescan:
            self._scans.ask_for_all()
        self._intake.hear(heard.files)

    def _advance_scans(self) -> None:
        if self._intake.full:
            return
        if self._intake.dropped:
            self._intake.dropped = False
            self._scans.ask_for_all()
        self._scans.advance()

    def _scan(self, top: bytes) -> Scan:
        return self._intake.scan(top, self._enter)

    def _scan_interval(self) -> float:
        if self._watch is None:
            return self._poll_every
        return _RETRY_EVERY if self._intake.troubled else _SCAN_EVERY
