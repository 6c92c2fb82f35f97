"""What becomes of a delivered file: ``then: delete`` or ``then: {move: DIR}``, one file at a time.

It happens to the very version that was sent, or not at all:

1. its name has that version (device, inode, size, mtime); else the watcher sends the newer one;
2. it is renamed aside, to ``.kfd/TID.sent`` in the route's directory, where nobody looks for it;
3. it is compared again, for it may have changed in between; if so, it gets its name back;
4. it is deleted; or it is renamed to its place, or copied there, synced, and deleted.

The ledger names the file until all that is done and durable. Killed anywhere, the next start finds
the file at its name (from 1 on), aside (from 3 on), or at neither place (done).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kfd.config.values import Then
from kfd.daemon.crashpoint import reach
from kfd.daemon.disposal.place import Place
from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger.disposals import Disposal
from kfd.daemon.publishing.destination import PRIVATE, Directories
from kfd.daemon.publishing.renames import rename_new

_OPEN_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o755  # of directories that are made to move files to


class AwayError(OSError):
    """The route's directory isn't the one that is watched: it is unmounted, or not yet found."""


Identity = tuple[int, int]  # device and inode of a directory


class Disposer:
    """Disposes of the files of one route. Used in one thread; may hang with a share."""

    def __init__(
        self, directory: Path, then: Then, identity: Callable[[], Identity | None]
    ) -> None:
        """``identity`` is of the directory that is watched now."""
        self._directory = directory
        self._identity = identity
        self._keep = then.action == "keep"
        self._target = then.directory  # None: nothing is moved

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Some files; at the end all that was done to them is durable.

        Raises :class:`OSError`; :class:`AwayError` where it would look into an empty mount point.
        """
        with _opened(self._directory) as source:
            status = os.fstat(source.open(b"", create=False))
            if (status.st_dev, status.st_ino) != self._identity():
                raise AwayError
            if self._target is None:
                batch = Batch(source, None, keep=self._keep)
                yield batch
                batch.sync()
                return
            self._target.mkdir(_MODE, parents=True, exist_ok=True)
            with _opened(self._target) as target:
                batch = Batch(source, target, keep=False)
                yield batch
                batch.sync()


@contextmanager
def _opened(directory: Path) -> Iterator[Directories]:
    root = os.open(directory, _OPEN_ROOT)
    directories = Directories(root, _MODE, -1)
    try:
        yield directories
    finally:
        directories.close()
        os.close(root)


class Batch:
    """Files that are disposed of together."""

    def __init__(self, source: Directories, target: Directories | None, *, keep: bool) -> None:
        self._source = source
        self._target = target
        self._keep = keep  # the route did otherwise before: what lies aside gets its name back
        self._private: int | None = None

    def sync(self) -> None:
        """Make all renames durable."""
        self._source.sync()
        if self._target is not None:
            self._target.sync()

    def dispose(self, one: Disposal) -> bool:
        """Do with a file what is to be done; false if it is no longer the one that was sent.

        May be called again for one that was interrupted anywhere. Raises :class:`OSError`.
        """
        aside = self._aside(one)
        status = aside.status()
        if status is None:
            there = None if self._keep else self._there(one)
            if there is None:
                return False
            os.rename(
                there.name, aside.name, src_dir_fd=there.directory, dst_dir_fd=aside.directory
            )
            self._source.changed(there.directory)
            self._source.changed(aside.directory)
            reach("then.aside")
            status = aside.status()
        if self._keep or status is None or not _is_sent(one, status):
            self._put_back(one, aside)
            return False
        if self._target is None:
            aside.unlink()
        else:
            self._move(one, aside, self._target)
        self._source.changed(aside.directory)
        reach("then.done")
        return True

    def _aside(self, one: Disposal) -> Place:
        if self._private is None:
            root = self._source.open(b"", create=False)
            with suppress(FileExistsError):
                os.mkdir(PRIVATE, 0o700, dir_fd=root)
            self._private = self._source.open(PRIVATE, create=False)
            if os.fstat(self._private).st_uid != os.geteuid():
                self._private = None
                raise PermissionError(errno.EACCES, f"{os.fsdecode(PRIVATE)} is somebody else's")
        return Place(self._private, one.tid.hex().encode() + b".sent")

    def _there(self, one: Disposal) -> Place | None:
        """Where the version that was sent lies, if it is still there."""
        parent, _, name = one.path.rpartition(b"/")
        try:
            place = Place(self._source.open(parent, create=False), name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        status = place.status()
        return place if status is not None and _is_sent(one, status) else None

    def _put_back(self, one: Disposal, aside: Place) -> None:
        """It changed in the last moment. Should its name be taken by now, it gets another."""
        parent, _, name = one.path.rpartition(b"/")
        place = Place(self._source.open(parent, create=True), name)
        reach("then.changed")
        try:
            _rename_there_or_beside(aside, place, one)
        except FileNotFoundError:
            return
        self._source.changed(place.directory)
        self._source.changed(aside.directory)

    def _move(self, one: Disposal, aside: Place, target: Directories) -> None:
        parent, _, name = one.path.rpartition(b"/")
        place = Place(target.open(parent, create=True), name)
        for there in (place, place.beside(one.tid)):
            try:
                rename_new(aside.directory, aside.name, there.directory, there.name)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(one, aside, place, target)
            target.changed(there.directory)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(one.path))

    def _copy(self, one: Disposal, aside: Place, place: Place, target: Directories) -> None:
        """To another file system: there, whole and durable, before it is deleted here."""
        if not any(aside.same_content(there) for there in (place, place.beside(one.tid))):
            part = Place(place.directory, b".%s.part" % one.tid.hex().encode())
            aside.copy_to(part)
            reach("then.copied")
            _rename_there_or_beside(part, place, one)
            reach("then.placed")
        target.changed(place.directory)
        target.sync()  # before the only other copy goes
        aside.unlink()


def _rename_there_or_beside(source: Place, place: Place, one: Disposal) -> None:
    """To a name, or to the one beside it if that is taken."""
    try:
        rename_new(source.directory, source.name, place.directory, place.name)
    except FileExistsError:
        other = place.beside(one.tid)
        rename_new(source.directory, source.name, other.directory, other.name)


def _is_sent(one: Disposal, status: os.stat_result) -> bool:
    """Whether this is the version that was sent."""
    if not stat.S_ISREG(status.st_mode):
        return False
    same_file = one.inode == 0 or (one.device, one.inode) == (status.st_dev, inode_of(status))
    return same_file and (one.size, one.mtime_ns) == (status.st_size, status.st_mtime_ns)
