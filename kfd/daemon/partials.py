"""The files that one consumer thread puts together, with a bound on open descriptors."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from pathlib import Path

from kfd.daemon.destination import Destination, PartKey
from kfd.errors import KfdError

MAX_DESCRIPTORS = 256  # no less than a batch has records, or small files are opened twice

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
"""What concerns the disk and not one file: receiving pauses and goes on by itself."""


class DiskError(KfdError):
    """The disk can't take more just now. Nothing is lost: it is read again from Kafka."""

    retry = True

    def __init__(self, error: OSError, directory: Path) -> None:
        super().__init__(
            f"cannot write in {directory}: {error.strerror}",
            fix="free space, or mend the file system; receiving goes on by itself",
        )


class Partials:
    """Partials of one thread. Any :class:`OSError` in ``.kfd`` is a :class:`DiskError`."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._open: OrderedDict[PartKey, int] = OrderedDict()  # key → descriptor, oldest use first

    def append(self, key: PartKey, offset: int, value: bytes) -> None:
        """Write the next bytes of a partial; at offset 0 it is made.

        The kernel has them then; the disk only when the publisher has synced the file.
        """
        try:
            fd = self._create(key) if offset == 0 else self.descriptor(key)
            view = memoryview(value)
            while view:
                written = os.pwrite(fd, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise DiskError(error, self._destination.directory) from error

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

    def _create(self, key: PartKey) -> int:
        self.forget(key)
        fd = self._destination.create_part(key)
        self._keep(key, fd)
        return fd

    def _keep(self, key: PartKey, fd: int) -> None:
        self._open[key] = fd
        if len(self._open) > MAX_DESCRIPTORS:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
