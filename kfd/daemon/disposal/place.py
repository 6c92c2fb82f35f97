"""A name in an open directory: what has it, and copies of it that are whole and durable."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass

from kfd.paths import conflict_name

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STEP = 1 << 20  # bytes read at once
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory, which is given by its descriptor: no symbolic link is followed.

    Methods raise :class:`OSError`.
    """

    directory: int
    name: bytes

    def status(self) -> os.stat_result | None:
        """Of what has the name, if anything has."""
        with suppress(FileNotFoundError):
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        return None

    def unlink(self) -> None:
        os.unlink(self.name, dir_fd=self.directory)

    def beside(self, tid: bytes) -> Place:
        """Its conflict name."""
        return Place(self.directory, conflict_name(self.name, tid))

    def copy_to(self, target: Place) -> None:
        """Copy content, mode and times, and make them durable; what was there before is void."""
        with open(self._open(_READ), "rb") as reader, open(target._create(), "wb") as writer:
            shutil.copyfileobj(reader, writer, _STEP)
            writer.flush()
            status = os.fstat(reader.fileno())
            os.fchmod(writer.fileno(), stat.S_IMODE(status.st_mode))
            os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(writer.fileno())

    def same_content(self, other: Place) -> bool:
        """Whether another place has a whole copy of this file."""
        mine, theirs = self.status(), other.status()
        if mine is None or theirs is None or not stat.S_ISREG(theirs.st_mode):
            return False
        if (mine.st_size, mine.st_mtime_ns) != (theirs.st_size, theirs.st_mtime_ns):
            return False
        # not filecmp: it remembers answers by name, size and mtime
        with open(self._open(_READ), "rb") as one, open(other._open(_READ), "rb") as another:
            while (content := one.read(_STEP)) == another.read(_STEP):
                if not content:
                    return True
        return False

    def _open(self, flags: int) -> int:
        return os.open(self.name, flags, 0o600, dir_fd=self.directory)

    def _create(self) -> int:
        with suppress(FileNotFoundError):
            self.unlink()
        return self._open(_CREATE)
