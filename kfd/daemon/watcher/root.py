"""A route's own directory: whether it is there, and whether it is still the same one.

An unmounted share leaves an empty directory behind. To take that for the route's would mean to
forget what was sent, so a directory that has sunk to a mount point above is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfd.daemon.watcher.mounts import Mount, mount_of
from kfd.errors import KfdError
from kfd.paths import escape

_WAIT = "sending resumes by itself"


class RootProblem(KfdError):  # noqa: N818 - it is a state that passes
    """The directory of a route cannot be used now."""

    retry = True


class Root:
    """The directory of an upload route. Methods are called in the watcher's thread only."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.fsencode(directory.absolute())
        self.path = self._directory  # resolved at every find
        self._mount: Mount | None = None
        self.identity: tuple[int, int] | None = None  # device, inode; None: to be found again

    @property
    def shown(self) -> str:
        return escape(self._directory)

    @property
    def prefix(self) -> bytes:
        """What makes a path below it absolute."""
        return self.path if self.path.endswith(b"/") else self.path + b"/"

    @property
    def network(self) -> bool:
        """Whether it lies on a network file system; known once it was found."""
        return self._mount is not None and self._mount.network

    def find(self) -> bool:
        """Look for the directory; true if it isn't the one that was found last.

        Raises :class:`RootProblem` where there is none that can be used.
        """
        path = os.path.realpath(self._directory)
        if path != self.path:  # a symbolic link leads elsewhere now; another mount is no wonder
            self.path, self._mount = path, None
        found = self._identify()
        if found == self.identity:
            return False
        self._mount = self._check_mount()
        self.identity = found
        return True

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the directory found last, or :class:`RootProblem` if it is gone."""
        descriptor = self._open()
        try:
            if _identity(descriptor) != self.identity:
                self.identity = None
                raise RootProblem(f"{self.shown} was replaced", fix=_WAIT)
            yield descriptor
        finally:
            os.close(descriptor)

    def _identify(self) -> tuple[int, int]:
        descriptor = self._open()
        try:
            if not os.access(self.path, os.R_OK | os.X_OK, effective_ids=True):
                raise self.lost(PermissionError())
            return _identity(descriptor)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self.lost(error) from error

    def _check_mount(self) -> Mount:
        mount = mount_of(self.path)
        if self._mount is not None and len(mount.point) < len(self._mount.point):
            self.identity = None
            raise RootProblem(f"{self.shown} is not mounted", fix=f"mount it; {_WAIT}")
        return mount

    def lost(self, error: OSError) -> RootProblem:
        """Forget which directory it was, so that it counts as another when it is back."""
        self.identity = None
        match error:
            case FileNotFoundError():
                return RootProblem(f"{self.shown} is missing", fix=f"create or mount it; {_WAIT}")
            case NotADirectoryError():
                return RootProblem(f"{self.shown} is not a directory", fix=f"replace it; {_WAIT}")
            case PermissionError():
                return RootProblem(
                    f"kfd may not read {self.shown}",
                    fix=f"give the daemon's user read and search permission on it; {_WAIT}",
                )
        return RootProblem(
            f"{self.shown} cannot be read: {error.strerror}", fix=f"see to the disk; {_WAIT}"
        )


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
