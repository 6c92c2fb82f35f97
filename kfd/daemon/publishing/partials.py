"""The files that one consumer thread puts together, with a bound on open descriptors."""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from kfd.daemon.crashpoint import reach
from kfd.daemon.publishing import partialmark
from kfd.daemon.publishing.destination import Destination, PartKey
from kfd.daemon.publishing.partialmark import PartialMark
from kfd.errors import KfdError

MAX_DESCRIPTORS = 256  # no less than a batch has records, or small files are opened twice
READ_SIZE = 1 << 20  # bytes read at once for a digest

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
"""What concerns the disk and not one file: receiving pauses and goes on by itself."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Hasher(Protocol):
    """What takes the bytes of a file one after the other."""

    def update(self, data: bytes, /) -> object: ...


class DiskError(KfdError):
    """The disk can't take more just now. Nothing is lost: it is read again from Kafka.

    ``spoiled`` is the partial that may not hold any more what was written into it, if one is.
    """

    retry = True

    def __init__(self, error: OSError, directory: Path, spoiled: PartKey | None = None) -> None:
        super().__init__(
            f"cannot write in {directory}: {error.strerror}",
            fix="free space, or mend the file system; receiving goes on by itself",
        )
        self.spoiled = spoiled
        self.no_space = error.errno in _NO_SPACE


class Partials:
    """Partials of one thread. Any :class:`OSError` in ``.kfd`` is a :class:`DiskError`."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._open: OrderedDict[PartKey, int] = OrderedDict()  # key → descriptor, oldest use first

    def append(self, key: PartKey, offset: int, value: bytes) -> None:
        """Write the next bytes of a partial; at offset 0 it is made.

        The kernel has them then; the disk only when the file was synced. What can't be written
        for want of space leaves the partial as it was; after any other error it is spoiled.
        """
        self.write(key, offset, value, new=offset == 0)

    def write(self, key: PartKey, offset: int, value: bytes | memoryview, *, new: bool) -> None:
        """As :meth:`append`, anywhere in a partial; ``new``: it is made."""
        try:
            fd = self._create(key) if new else self.descriptor(key)
            view = memoryview(value)
            while view:
                written = os.pwrite(fd, view, offset)
                offset += written
                view = view[written:]
            reach("partial.written")
        except OSError as error:
            spoiled = None if error.errno in (*_NO_SPACE, errno.EROFS) else key
            raise DiskError(error, self._destination.directory, spoiled) from error

    def descriptor(self, key: PartKey) -> int:
        """An open descriptor of a partial; it stays this object's."""
        fd = self._open.get(key)
        if fd is None:
            fd = self._destination.open_part(key)
            self._keep(key, fd)
        else:
            self._open.move_to_end(key)
        return fd

    def forget(self, key: PartKey) -> None:
        """Close a partial's descriptor; its file has its final name, or is not ours any more."""
        fd = self._open.pop(key, None)
        if fd is not None:
            os.close(fd)

    def discard(self, key: PartKey) -> None:
        """Remove a partial."""
        self.forget(key)
        try:
            self._destination.remove_part(key)
        except OSError as error:
            raise DiskError(error, self._destination.directory) from error

    def sync(self, key: PartKey) -> None:
        """Make the bytes of a partial durable. One that fails is spoiled for good: the kernel may
        have dropped what it could not write, and would not say so again."""
        try:
            os.fdatasync(self.descriptor(key))
        except OSError as error:
            raise DiskError(error, self._destination.directory, key) from error

    def mark(self, marks: list[PartialMark]) -> list[PartialMark]:
        """Mark partials that were synced, and make their names durable; those that took it."""
        try:
            marked = [
                mark for mark in marks
                if partialmark.write(self.descriptor(PartKey(mark.tid, mark.partition)), mark)
            ]  # fmt: skip
            reach("checkpoint.marked")
            if marked:
                self._destination.sync_private()
        except OSError as error:
            raise DiskError(error, self._destination.directory) from error
        return marked

    def durable(self, partition: int) -> Iterator[PartialMark]:
        """The durable partials of a partition, cut to what is durable; others are removed."""
        try:
            for key in self._destination.parts():
                if key.partition == partition:
                    mark = self._restore(key)
                    if mark is not None:
                        yield mark
        except OSError as error:
            raise DiskError(error, self._destination.directory) from error

    def hash(self, key: PartKey, hasher: Hasher, start: int, end: int) -> None:
        """Feed a hasher with bytes of a partial; one that has less, or can't be read, is void."""
        try:
            fd = self.descriptor(key)
            while start < end:
                piece = os.pread(fd, min(READ_SIZE, end - start), start)
                if not piece:
                    raise OSError(errno.EIO, "a partial was cut off")
                hasher.update(piece)
                start += len(piece)
        except OSError as error:
            raise DiskError(error, self._destination.directory, key) from error

    def _restore(self, key: PartKey) -> PartialMark | None:
        try:
            fd = self.descriptor(key)
            mark = partialmark.read(fd, key)
            if mark is not None:
                os.ftruncate(fd, mark.size)
                os.utime(fd)  # it is in use again
                return mark
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
        self.forget(key)
        self._destination.remove_part(key)
        return None

    def _create(self, key: PartKey) -> int:
        self.forget(key)
        fd = self._destination.create_part(key)
        reach("partial.created")
        self._keep(key, fd)
        return fd

    def _keep(self, key: PartKey, fd: int) -> None:
        self._open[key] = fd
        if len(self._open) > MAX_DESCRIPTORS:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)


def sweep(destination: Destination, topic: str, older_than: float) -> None:
    """Remove what nobody can go on with: partials that are not durable, are of another topic, or
    were last written before ``older_than`` (epoch seconds). While nobody receives there.

    Raises :class:`DiskError`.
    """
    try:
        for key in destination.parts():
            if not _may_go_on(destination, key, topic, older_than):
                destination.remove_part(key)
    except OSError as error:
        raise DiskError(error, destination.directory) from error


def _may_go_on(destination: Destination, key: PartKey, topic: str, older_than: float) -> bool:
    try:
        fd = destination.open_part(key)
    except PermissionError:  # it was about to be published, with a mode that forbids it
        return False
    try:
        mark = partialmark.read(fd, key)
        fresh = os.fstat(fd).st_mtime >= older_than
    finally:
        os.close(fd)
    return mark is not None and mark.begin.topic == topic and fresh


def abandoned(destination: Destination, held: set[PartKey], seconds: float) -> list[PartKey]:
    """Partials that no consumer holds, not written for so long: other hosts read their
    partitions now."""
    now = time.time()
    found = []
    for key in destination.parts():
        status = destination.part_status(key)
        if key not in held and status is not None and now - status.st_mtime > seconds:
            found.append(key)
    return found
