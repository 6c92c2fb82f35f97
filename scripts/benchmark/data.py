"""The files that are sent: random bytes, made once, and linked to wherever they are to appear."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.benchmark.process import BenchmarkError

_BLOCK = 1 << 20
_LONG_AGO = 1_000_000_000  # seconds since the epoch; nobody waits for these files to settle


@dataclass(frozen=True, slots=True)
class Files:
    """``count`` files of ``size`` bytes each, in a directory of their own."""

    directory: Path
    count: int
    size: int

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.count * self.size

    def first(self, count: int) -> Files:
        """Only some of them."""
        return replace(self, count=min(count, self.count))

    def paths(self) -> Iterator[Path]:
        """Where they are, in order."""
        return (self.directory / f"f{number:05}.bin" for number in range(self.count))

    def make(self) -> None:
        """Write those that aren't there; then read all, so that each side finds them cached."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.paths():
            if not path.exists() or path.stat().st_size != self.size:
                _write(path, self.size)
            _read(path)

    def link_into(self, directory: Path) -> None:
        """Make a new directory that has them too, without copying a byte."""
        directory.mkdir()
        for path in self.paths():
            os.link(path, directory / path.name)

    def missing_in(self, directory: Path) -> list[str]:
        """Names of those that are not whole there: too short, or with holes."""
        return [path.name for path in self.paths() if not self._whole(directory / path.name)]

    def _whole(self, path: Path) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        return status.st_size == self.size and status.st_blocks * 512 >= self.size


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for offset in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - offset)))
    os.utime(path, (_LONG_AGO, _LONG_AGO))


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(_BLOCK):
            pass


def need_space(directory: Path, size: int) -> None:
    """Raise :class:`BenchmarkError` unless so many bytes are free there."""
    free = shutil.disk_usage(directory).free
    if free < size:
        raise BenchmarkError(
            f"{directory} has {free / 1e9:.1f} GB free, and {size / 1e9:.1f} are needed:"
            " give another directory with --work"
        )
