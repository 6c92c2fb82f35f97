"""What a side of the comparison is: where it works, and what it can be asked to do."""

from __future__ import annotations

import fcntl
import os
import shutil
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
        """A new directory, removed at the end."""
        home = Path(tempfile.mkdtemp(prefix="run-", dir=self.directory))
        try:
            yield home
        finally:
            shutil.rmtree(home)


@contextmanager
def workplace(directory: Path) -> Iterator[Site]:
    """The directory of one run at a time; what a killed one left in it is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError(f"{directory} is in use by another scripts/bench") from None
        for left in directory.glob("run-*"):
            shutil.rmtree(left)
        yield Site(Broker(directory / "broker"), directory)


def settle_disk() -> None:
    """Let nobody's clock run while the disk still writes what another side left to it."""
    os.sync()
