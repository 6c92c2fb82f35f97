"""What a side of the comparison is: where it works, and what it can be asked to do."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scripts.benchmark.data import Files
from scripts.benchmark.kafka import Broker
from scripts.benchmark.process import BenchmarkError, Usage


@dataclass(frozen=True, slots=True)
class Timing:
    """What one piece of work took, and what each process used for it."""

    seconds: float
    processes: Mapping[str, Usage]


class Side(Protocol):
    """Sends and receives files in its own way."""

    def upload(self, files: Files, chunk_size: int) -> Timing:
        """Put files into a new topic."""

    def publish(self, files: Files) -> Timing:
        """Get files out of a topic that is full of them."""


@dataclass(frozen=True, slots=True)
class Site:
    """The broker, and the directory in which all sides work."""

    broker: Broker
    directory: Path

    @contextmanager
    def home(self) -> Iterator[Path]:
        """A new directory; its files are emptied at the end, and removed after the whole run.

        For minutes after files were removed, ext4 passes their inodes over one by one whenever it
        makes a file: whoever comes next would pay for it, up to 0.6 ms a file.
        """
        home = Path(tempfile.mkdtemp(prefix="run-", dir=self.directory))
        try:
            yield home
        finally:
            _empty(home)


@contextmanager
def workplace(directory: Path) -> Iterator[Site]:
    """The directory of one run at a time; what a killed one left in it is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError(f"{directory} is in use by another scripts/bench") from None
        _remove_runs(directory)
        try:
            yield Site(Broker(directory / "broker"), directory)
        finally:
            _remove_runs(directory)


def _empty(home: Path) -> None:
    """Give back the space of all files that have no other name."""
    for directory, _, names in os.walk(home):
        for name in names:
            path = Path(directory, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                path.chmod(0o600)
                os.truncate(path, 0)


def _remove_runs(directory: Path) -> None:
    for left in directory.glob("run-*"):
        shutil.rmtree(left)


def settle_disk() -> None:
    """Let nobody's clock run while the disk still writes what another side left to it."""
    os.sync()
