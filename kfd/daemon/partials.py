"""The files that one consumer thread puts together, with a bound on open descriptors."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict

from kfd.daemon.destination import Destination
from kfd.errors import KfdError

MAX_DESCRIPTORS = 256  # no less than a batch has records, or small files are opened twice

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
"""What concerns the disk and not one file: receiving pauses and goes on by itself."""


class DiskError(KfdError):
    """The disk can't take more just now. Nothing is lost: it is read again from Kafka."""

    retry = True

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"cannot write: {error.strerror}",
            fix="free space, or mend the file system; receiving goes on by itself",
        )


class Partials:
    """Partials of one thread. Any :class:`OSError` in ``.kfd`` is a :class:`DiskError`."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._open: OrderedDict[bytes, int] = OrderedDict()  # tid → descriptor, oldest use first

    def append(self, tid: bytes, offset: int, value: bytes) -> None:
        """Write the next bytes of a partial; at offset 0 it is made.

        The kernel has them then; the disk only when the publisher has synced the file.
        """
        try:
            fd = self._create(tid) if offset == 0 else self.descriptor(tid)
            view = memoryview(value)
            while view:
                written = os.pwrite(fd, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise DiskError(error) from error

    def descriptor(self, tid: bytes) -> int:
        """An open descriptor of a partial; it stays this object's."""
        fd = self._open.get(tid)
        if fd is None:
            fd = self._destination.open_part(tid)
            self._keep(tid, fd)
        else:
            self._open.move_to_end(tid)
        return fd

    def forget(self, tid: bytes) -> None:
        """Close a partial's descriptor; its file has its final name, or is not ours any more."""
        fd = self._open.pop(tid, None)
        if fd is not None:
            os.close(fd)

    def discard(self, tid: bytes) -> None:
        """Remove a partial."""
        self.forget(tid)
        try:
            self._destination.remove_part(tid)
        except OSError as error:
            raise DiskError(error) from error

    def _create(self, tid: bytes) -> int:
        self.forget(tid)
        fd = self._destination.create_part(tid)
        self._keep(tid, fd)
        return fd

    def _keep(self, tid: bytes, fd: int) -> None:
        self._open[tid] = fd
        if len(self._open) > MAX_DESCRIPTORS:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
