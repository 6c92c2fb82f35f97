"""One version of a file as it was seen on the disk, and who takes those that have settled."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_INODE_MASK = (1 << 63) - 1  # what SQLite's integers hold; some file systems use the 64th bit


def inode_of(status: os.stat_result) -> int:
    """The inode number as kfd keeps and compares it."""
    return status.st_ino & _INODE_MASK


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What tells one version of a file from the next.

    ``device`` and ``inode`` are 0 where they mean nothing (network file systems, polled routes):
    there they are not to be compared.
    """

    path: bytes  # relative to the route's directory, "/" between components: the wire path
    source: bytes  # absolute
    device: int
    inode: int
    size: int  # bytes
    mtime_ns: int
    mode: int  # the permission bits
    ctime_ns: int
    copy: bytes = b""  # absolute; the copy in the spool that is sent, where there is one

    @classmethod
    def of(cls, path: bytes, source: bytes, status: os.stat_result, *, inodes: bool) -> FileVersion:
        """The version that ``status`` shows; ``inodes`` tells whether those mean anything."""
        return cls(
            path,
            source,
            status.st_dev if inodes else 0,
            inode_of(status) if inodes else 0,
            status.st_size,
            status.st_mtime_ns,
            stat.S_IMODE(status.st_mode),
            status.st_ctime_ns,
        )

    def same_content(self, other: FileVersion) -> bool:
        """Whether the bytes can be taken to be the same; mode and ctime may differ."""
        return (self.size, self.mtime_ns, self.inode, self.device) == (
            other.size,
            other.mtime_ns,
            other.inode,
            other.device,
        )


class FileSink(Protocol):
    """Takes settled files. Called in the watcher's thread; may block, which holds the scan back."""

    def settled(self, route: str, versions: Sequence[FileVersion]) -> None:
        """Queue durably those that aren't known as sent or queued; at most 1,000 of them."""

    def unknown(self, route: str, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Those whose (path, device, inode, size, mtime_ns) isn't known as sent or queued."""

    def skips(self, version: FileVersion) -> bool:
        """Whether this one would only be remembered, not sent: it was there before the route."""
