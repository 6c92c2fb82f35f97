"""A real watcher on a real directory, and a sink that remembers what it was given."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.stage import Stage
from kfd.daemon.watcher import Watcher
from kfd.selection import Selection
from tests.support import eventually

EXCLUDE = (".*", "~*", "*.tmp", "*.part")
NEVER = 3600.0  # seconds to settle: what is seen nevertheless was not waited for
LONG_AGO = 1_000_000_000  # seconds since the epoch


class Recorder:
    """A sink in memory. ``gate`` holds ``settled`` back while it is cleared."""

    def __init__(self) -> None:
        self.versions: list[FileVersion] = []
        self.largest_batch = 0
        self.born_ns = 0  # files that are older are skipped
        self.scans = 0  # of trees with fewer files than a batch
        self.gate = threading.Event()
        self.gate.set()
        self._known: set[tuple[object, ...]] = set()

    def settled(self, route: str, versions: Sequence[FileVersion]) -> None:
        self.gate.wait()
        self.largest_batch = max(self.largest_batch, len(versions))
        self._known.update(map(_key, versions))
        self.versions += versions

    def unknown(self, route: str, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        self.scans += 1
        self.largest_batch = max(self.largest_batch, len(versions))
        return [version for version in versions if _key(version) not in self._known]

    def skips(self, version: FileVersion) -> bool:
        return version.ctime_ns < self.born_ns

    def of(self, path: bytes | str) -> list[FileVersion]:
        return [one for one in self.versions if one.path == os.fsencode(path)]

    def paths(self) -> set[bytes]:
        return {version.path for version in self.versions}


def _key(version: FileVersion) -> tuple[object, ...]:
    return version.path, version.device, version.inode, version.size, version.mtime_ns


class Watched:
    """A watcher that runs, with all that a test asks of it."""

    def __init__(self, watcher: Watcher, sink: Recorder, health: Health) -> None:
        self.watcher = watcher
        self.sink = sink
        self.health = health

    def saw(self, *paths: bytes | str) -> None:
        """Wait until each of these files was handed over."""
        wanted = set(map(os.fsencode, paths))
        eventually(lambda: wanted <= self.sink.paths())

    def saw_times(self, path: bytes | str, times: int) -> list[FileVersion]:
        eventually(lambda: len(self.sink.of(path)) >= times)
        return self.sink.of(path)

    def problem(self, part: str) -> None:
        """Wait until a problem with this text is known."""
        eventually(lambda: any(part in one.text for one in self.health.problems()))

    def no_problem(self) -> None:
        eventually(lambda: not self.health.problems())

    def scanned_again(self) -> None:
        """Wait for a full scan, of a tree with some files, that has begun after now."""
        for _ in range(2):  # the first may end one that was in progress
            before = self.sink.scans
            self.watcher.rescan()
            eventually(lambda before=before: self.sink.scans > before)

    def nothing_waits(self) -> None:
        """Wait until no file has to stand still any more."""
        eventually(lambda: self.watcher._intake.next_due() == math.inf)

    def directories(self) -> set[bytes]:
        """The directories that are watched now, b"" being the route's own."""
        watch = self.watcher._watch
        return set(watch._watched) if watch is not None else set()


@contextmanager
def watched(
    directory: Path,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = EXCLUDE,
    prepare: Callable[[Watcher], None] = lambda _: None,
    **options: Any,
) -> Iterator[Watched]:
    """Watch ``directory``; the watcher has stopped in order when this is left."""
    sink, health = Recorder(), Health()
    watcher = Watcher("lab", directory, Selection(include, exclude), sink, health, **options)
    deaths: list[BaseException] = []
    prepare(watcher)
    watcher.start(lambda _stage, error: deaths.append(error))
    try:
        assert watcher.ready.wait(30)
        yield Watched(watcher, sink, health)
    finally:
        sink.gate.set()
        _end(watcher)
    assert not deaths, deaths


def _end(stage: Stage) -> None:
    stage.stop()
    assert stage.join(30)
    assert not [one.name for one in threading.enumerate() if one.name.startswith(stage.name)]


def put(path: Path | bytes, data: bytes = b"data", mtime: float | None = None) -> Path:
    """Write a file and close it; set ``mtime`` (seconds) after that, which nothing tells of."""
    path = Path(os.fsdecode(path))
    path.write_bytes(data)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path
