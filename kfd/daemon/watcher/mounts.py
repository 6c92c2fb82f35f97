"""Which file system a directory lies on, from /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MOUNT_TABLE: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")

# inotify tells only what this host itself does there, and inodes may change with a remount.
_NETWORK: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    )
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: where it is mounted and of what kind it is."""

    point: bytes
    kind: str

    @property
    def network(self) -> bool:
        """Whether other hosts may change files there unseen; so it may be with any FUSE."""
        return self.kind in _NETWORK or self.kind.startswith("fuse.") or self.kind == "fuse"


def mount_of(path: bytes) -> Mount:
    """The mount that holds the absolute, resolved ``path``, as this process sees it now."""
    return find_mount(path, _MOUNT_TABLE.read_bytes())


def mount_points_below(directory: bytes) -> list[bytes]:
    """Where other file systems are mounted inside of an absolute, resolved directory."""
    inside = directory.rstrip(b"/") + b"/"
    mounts = (_parse(line) for line in _MOUNT_TABLE.read_bytes().splitlines())
    return sorted({mount.point for mount in mounts if mount.point.startswith(inside)})


def find_mount(path: bytes, table: bytes) -> Mount:
    """The mount of ``path`` in a mount table: the longest mount point, the last one mounted."""
    found = Mount(b"", "")
    for line in table.splitlines():
        mount = _parse(line)
        if len(mount.point) >= len(found.point) and _holds(mount.point, path):
            found = mount
    return found


def _parse(line: bytes) -> Mount:
    fields, _, source = line.partition(b" - ")
    point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields.split(b" ")[4])
    return Mount(point, source.split(b" ")[0].decode("ascii", "replace"))


def _holds(point: bytes, path: bytes) -> bool:
    return point in (b"/", path) or path.startswith(point + b"/")
