"""A file system whose power can be cut: ext4 in a file, on a loop device.

Cut, it never writes again: what was in its caches only, data or journal, is gone, and all that
reach for it get I/O errors. Mounted again it is as a machine finds it that lost its power; what
the device itself was given is taken for durable.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Self

from tests.support import eventually, unavailable

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: _IOR('X', 125, __u32)
_NO_LOG_FLUSH = struct.pack("I", 2)
# Keep in memory for as long as may be what isn't synced: not written every 5 s, not before a
# rename, not before the journal says that a file is longer. Each of these hides a missing fsync.
_OPTIONS = "loop,commit=300,data=writeback,noauto_da_alloc"


class LoopDisk:
    """An ext4 of its own, mounted at ``root`` while entered. Needs root."""

    def __init__(self, image: Path, root: Path, size: int = 256 << 20) -> None:
        if os.geteuid() != 0:
            unavailable("a file system can be mounted, and its power cut, by root only")
        if shutil.which("mkfs.ext4") is None:
            unavailable("mkfs.ext4 is not installed")
        self.root = root
        self._image = image
        with image.open("wb") as file:
            file.truncate(size)
        # all of its tables now: made later, in the background, they would be written at any time
        features = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
        subprocess.run(["mkfs.ext4", "-q", "-F", *features, str(image)], check=True)
        root.mkdir()

    def mount(self) -> None:
        """Mount it; after a cut this replays the journal."""
        command = ["mount", "-t", "ext4", "-o", _OPTIONS, str(self._image), str(self.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            unavailable(f"no loop device can be mounted here: {done.stderr.strip()}")

    def cut(self) -> None:
        """Cut the power. Whatever runs there gets I/O errors now."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Unmount it, once nobody uses it any more."""
        eventually(self._unmounted, 15, every=0.1)

    def restore(self) -> None:
        """Give it its power back, after whoever used it is gone: unmount and mount."""
        self.unmount()
        self.mount()

    def _unmounted(self) -> bool:
        command = ["umount", str(self.root)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._unmounted():
            subprocess.run(["umount", "--lazy", str(self.root)], check=False)
