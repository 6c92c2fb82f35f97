"""The mark that kfd leaves on every file that it publishes: the xattr ``user.kfd.transfer``.

It tells a file that kfd put there, and that nobody changed since, from every other file, even
when the ledger was lost. 57 bytes, so that ext4 keeps it inside the inode and durability costs no
further block: (topic, origin, path) are held as a digest, the rest as they are.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

from blake3 import blake3

from kfd.wire import Begin

XATTR = "user.kfd.transfer"
_LAYOUT = struct.Struct(">B16sQ16sQq")
_VERSION = 1
ABSENT = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Mark:
    """Which version of which file of whom this is, and how it was when it was published."""

    lineage: bytes  # digest of topic, origin and path
    generation: int
    tid: bytes
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, tid: bytes, begin: Begin, mtime_ns: int) -> Mark:
        """The mark of a transfer. ``mtime_ns`` is the file's, as its file system has rounded it."""
        line = lineage(begin.topic, begin.origin, begin.path)
        return cls(line, begin.generation, tid, begin.size, mtime_ns)

    def fits(self, status: os.stat_result) -> bool:
        """Whether the file with this status is as it was published."""
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def encode(self) -> bytes:
        return _LAYOUT.pack(
            _VERSION, self.lineage, self.generation, self.tid, self.size, self.mtime_ns
        )


def lineage(topic: str, origin: str, path: bytes) -> bytes:
    """What all versions of one file have in common. NUL can't occur in any of the three."""
    key = b"\0".join((topic.encode(), origin.encode(), path))
    return blake3(key).digest(length=16)


def xattr_of(fd: int, name: str) -> bytes | None:
    """An extended attribute of an open file; None if it has none that can be read."""
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise


def read_mark(fd: int) -> Mark | None:
    """The mark of an open file; None if it has none that can be read."""
    value = xattr_of(fd, XATTR)
    if value is None or len(value) != _LAYOUT.size or value[0] != _VERSION:
        return None
    _, line, generation, tid, size, mtime_ns = _LAYOUT.unpack(value)
    return Mark(line, generation, tid, size, mtime_ns)


def write_mark(fd: int, mark: Mark) -> None:
    """Mark an open file. Where the file system keeps no such marks, the ledger alone knows."""
    try:
        os.setxattr(fd, XATTR, mark.encode())
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
