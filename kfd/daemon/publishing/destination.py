"""The directory of one download route: its owner's lock, the partials in ``.kfd``, and names.

Whatever a sender claims, nothing outside is touched: directories are walked by descriptor, with
``O_NOFOLLOW`` at every step. One directory belongs to one daemon at a time (``.kfd/owner``).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from kfd.daemon.publishing.renames import RENAME_EXCHANGE, rename_new, renameat2
from kfd.errors import ConfigError, PermissionProblemError
from kfd.paths import escape
from kfd.unit import drop_in, writable

log = logging.getLogger(__name__)

PRIVATE = b".kfd"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART_NAME = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,9})\.part", re.ASCII)


class PartKey(NamedTuple):
    """What a partial is known by: a tid may be forged into another partition."""

    tid: bytes
    partition: int

    @property
    def name(self) -> bytes:
        """The partial's name in ``.kfd``."""
        return b"%s-%d.part" % (self.tid.hex().encode(), self.partition)

    @classmethod
    def of(cls, name: str) -> PartKey | None:
        """The key of what has this name in ``.kfd``, if it is a partial's."""
        found = _PART_NAME.fullmatch(name)
        return cls(bytes.fromhex(found[1]), int(found[2])) if found else None


QUARANTINE = b"quarantine"  # in ``.kfd``
_HELD_NAME = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,9})", re.ASCII)


class HeldKey(PartKey):
    """Of content that is held in quarantine: all that can be done with a partial can be with it."""

    @property
    def name(self) -> bytes:
        """Its name in ``.kfd``."""
        return b"%s/%s-%d" % (QUARANTINE, self.tid.hex().encode(), self.partition)

    @classmethod
    def of(cls, name: str) -> HeldKey | None:
        """The key of what has this name in the quarantine, if it is content."""
        found = _HELD_NAME.fullmatch(name)
        return cls(bytes.fromhex(found[1]), int(found[2])) if found else None


class Directories:
    """Directories of a route that a batch needs, opened once, made durable once.

    Made and used in one thread; :meth:`close` before the batch is forgotten.
    """

    def __init__(self, root: int, mode: int, group: int) -> None:
        self._root = root
        self._mode = mode
        self._group = group  # -1: as it comes
        self._open: dict[bytes, int] = {}
        self._changed: set[int] = set()

    def open(self, path: bytes, *, create: bool) -> int:
        """A descriptor of a directory below the root (``b""``: the root itself).

        Raises :class:`OSError`, whose ``filename`` is the way from the root to what can't be
        opened; a component that is a symlink or a file is one.
        """
        if not path:
            return self._root
        if path in self._open:
            return self._open[path]
        parent_path, _, name = path.rpartition(b"/")
        parent = self.open(parent_path, create=create)
        try:
            opened = os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
            opened = self._make(parent, name)
        except OSError as error:
            error.filename = path
            raise
        self._open[path] = opened
        return opened

    def changed(self, directory: int) -> None:
        """A name in this directory was made or replaced: it needs an fsync."""
        self._changed.add(directory)

    def changed_way(self, path: bytes) -> None:
        """As :meth:`changed`, for a directory and for all above it, which may be as new."""
        self.changed(self.open(path, create=False))
        if path:
            self.changed_way(path.rpartition(b"/")[0])

    def sync(self) -> None:
        """Make every changed directory durable, each once."""
        for directory in self._changed:
            os.fsync(directory)
        self._changed.clear()

    def close(self) -> None:
        for opened in self._open.values():
            os.close(opened)
        self._open.clear()

    def _make(self, parent: int, name: bytes) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, self._mode, dir_fd=parent)
        opened = os.open(name, _DIRECTORY, dir_fd=parent)
        os.fchmod(opened, self._mode)  # whatever the umask
        if self._group >= 0:
            os.fchown(opened, -1, self._group)
        self.changed(parent)
        return opened


class Destination:
    """One download route's directory. Its methods may be called in any of the route's threads.

    ``private`` is a descriptor of its ``.kfd``, ``device`` the number of its file system.
    """

    def __init__(self, directory: Path, *, mode: int, group: int, owner: str) -> None:
        """Make the directory if it isn't there, and take it for this daemon.

        ``mode`` is of directories that are made, ``group`` the gid of what is published (-1: the
        daemon's), ``owner`` names the daemon and its ledger. Raises
        :class:`PermissionProblemError`, or :class:`ConfigError` if another daemon has it.
        """
        self.directory = directory
        self.group = group
        self._mode = mode
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.private = self._open_private()
            self.device = os.fstat(self.private).st_dev
            self._try_group()
            self._owner = os.open(
                b"owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600,
                dir_fd=self.private,
            )  # fmt: skip
        except OSError as error:
            raise _unusable(directory, error) from error
        self._close = weakref.finalize(self, _close_all, self._owner, self.private, self._root)
        self._lock(owner)

    @contextmanager
    def directories(self) -> Iterator[Directories]:
        """The directories of one batch."""
        opened = Directories(self._root, self._mode, self.group)
        try:
            yield opened
        finally:
            opened.close()

    def create_part(self, key: PartKey) -> int:
        """A new, empty partial (0600); an old one of the same transfer is void."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(key.name, flags, 0o600, dir_fd=self.private)
        except FileExistsError:
            # never truncated: an old one may be a second link of a file that was published
            self.remove_part(key)
            return os.open(key.name, flags, 0o600, dir_fd=self.private)

    def open_part(self, key: PartKey) -> int:
        """A partial that is there, to write on."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(key.name, flags, dir_fd=self.private)

    def part_status(self, key: PartKey) -> os.stat_result | None:
        """The status of what has a partial's name, if anything has."""
        with suppress(FileNotFoundError):
            return os.stat(key.name, dir_fd=self.private, follow_symlinks=False)
        return None

    def remove_part(self, key: PartKey) -> None:
        """Remove a partial; one that isn't there is fine."""
        with suppress(FileNotFoundError):
            os.unlink(key.name, dir_fd=self.private)

    def parts(self) -> list[PartKey]:
        """The keys of all partials that are there; what only looks like one is removed."""
        with os.scandir(self.private) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.endswith(".part") and entry.is_file(follow_symlinks=False)
            ]
        found = {name: PartKey.of(name) for name in names}
        for name, key in found.items():
            if key is None:
                os.unlink(name, dir_fd=self.private)
        return [key for key in found.values() if key is not None]

    def hold(self, key: PartKey) -> bool:
        """Move a partial into the quarantine; false if it is no partial any more."""
        target = HeldKey(*key).name
        if self.part_status(key) is None:
            return False
        with suppress(FileExistsError):
            os.mkdir(QUARANTINE, 0o700, dir_fd=self.private)
        os.rename(key.name, target, src_dir_fd=self.private, dst_dir_fd=self.private)
        return True

    def held(self) -> list[HeldKey]:
        """The keys of all contents in the quarantine."""
        try:
            opened = os.open(QUARANTINE, _DIRECTORY, dir_fd=self.private)
        except FileNotFoundError:
            return []
        try:
            names = os.listdir(opened)
        finally:
            os.close(opened)
        return [key for name in names if (key := HeldKey.of(name)) is not None]

    def sync_quarantine(self) -> None:
        """Make durable what was moved into the quarantine, and out of ``.kfd``."""
        opened = os.open(QUARANTINE, _DIRECTORY, dir_fd=self.private)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
        self.sync_private()

    def sync_private(self) -> None:
        """Make the names of partials durable."""
        os.fsync(self.private)

    def publish_new(self, key: PartKey, directory: int, name: bytes) -> None:
        """Give a partial its final name. Raises :class:`FileExistsError` if that is taken.

        Killed when it has both names: the final one has the intended inode, so the start finds it
        published.
        """
        rename_new(self.private, key.name, directory, name)

    def exchange(self, key: PartKey, directory: int, name: bytes) -> bool:
        """Swap a partial with the file that has its final name; false where that can't be done."""
        return renameat2(self.private, key.name, directory, name, RENAME_EXCHANGE)

    def publish_over(self, key: PartKey, directory: int, name: bytes) -> None:
        """Give a partial a final name, whatever has it now."""
        os.rename(key.name, name, src_dir_fd=self.private, dst_dir_fd=directory)

    def free(self) -> int:
        """Bytes that the daemon may still write here."""
        return self.space()[0]

    def space(self) -> tuple[int, int]:
        """Bytes that the daemon may still write here, and all that the file system has."""
        status = os.fstatvfs(self._root)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def is_current(self) -> bool:
        """Whether its path still leads to it."""
        mine = os.fstat(self._root)
        with suppress(OSError):
            return os.path.samestat(mine, os.stat(self.directory))
        return False

    def adopt(self, *, mode: int, group: int) -> None:
        """Serve another route, or a changed one. While nobody publishes there."""
        self._mode = mode
        self.group = group

    def leave(self) -> None:
        """Let another daemon have the directory. The descriptors stay until nobody uses this any
        more: somebody may be looking at the free space, or for partials."""
        fcntl.flock(self._owner, fcntl.LOCK_UN)

    def close(self) -> None:
        """As :meth:`leave`, at once. Idempotent."""
        self._close()

    def _open_private(self) -> int:
        with suppress(FileExistsError):
            os.mkdir(PRIVATE, 0o700, dir_fd=self._root)
        private = os.open(PRIVATE, _DIRECTORY, dir_fd=self._root)
        status = os.fstat(private)
        if status.st_uid != os.geteuid():
            os.close(private)
            raise PermissionProblemError(
                f"{self.directory}/.kfd belongs to uid {status.st_uid}, kfd runs as {os.geteuid()}",
                fix="run kfd as its owner, as the service does (systemctl start kfd); or, where no"
                f" kfd uses it any more, remove it: rm -r {self.directory}/.kfd",
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(private, 0o700)
        return private

    def _try_group(self) -> None:
        """See at the start, not at the first file, whether files may be given to their group."""
        if self.group < 0:
            return
        try:
            os.fchown(self.private, -1, self.group)
        except PermissionError:
            raise PermissionProblemError(
                f"files in {self.directory} can't be given to the group with number {self.group}",
                fix=drop_in("SystemCallFilter=@chown"),
            ) from None

    def _lock(self, owner: str) -> None:
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            self.close()
            raise ConfigError(
                f"{self.directory} is in use by another kfd ({holder})",
                fix="give each daemon a directory of its own, or stop the other one",
            ) from error
        before = self._holder()
        if before not in ("", owner):
            log.warning("%s was used by another kfd before (%s): took over", self.directory, before)
        try:
            os.ftruncate(self._owner, 0)
            os.pwrite(self._owner, f"{owner}\n".encode(), 0)
        except OSError as error:  # it is the lock that counts; the name is for people
            log.warning("%s: .kfd/owner: %s", self.directory, error.strerror)

    def _holder(self) -> str:
        """Who wrote its name into ``.kfd/owner`` last."""
        return escape(os.pread(self._owner, 256, 0).strip())


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _unusable(directory: Path, error: OSError) -> PermissionProblemError:
    if error.errno == errno.EROFS:
        return PermissionProblemError(
            f"read-only for the service: {directory}",
            fix=writable([directory]),
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return PermissionProblemError(
            f"the directory cannot be used: {directory}: a file is in its way",
            fix=f"move {escape(os.fsencode(error.filename or directory))} away",
        )
    return PermissionProblemError(
        f"the directory cannot be used: {directory}: {error.strerror}",
        fix=f"mkdir -p {directory}, and give it to kfd's user",
    )
