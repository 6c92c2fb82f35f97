"""Copying what a descriptor is open on, in steps, with memory that doesn't depend on its size.

The source is read at explicit offsets: its own position is shared with whoever passed it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

# Bytes that the kernel copies between two looks around. Then they go to the disk: who syncs a file
# meanwhile, as the ledger does with each commit, may have to wait for all that others have written.
STEP = 8 * 1024 * 1024
_BUFFER = 256 * 1024  # bytes copied by hand, where the kernel can't
_NOT_FOR_THE_KERNEL = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,  # a sandbox that doesn't know the call
}


def copy(source: int, target: int, before_step: Callable[[int], int]) -> int:
    """Copy from the beginning to the end of ``source``; how many bytes.

    ``before_step`` gets how many bytes are copied and gives how many more there may be, 0 to end
    there; it may raise to give up. The last bytes are for the caller to sync. Raises
    :class:`OSError`.
    """
    done = synced = 0
    while (allowed := before_step(done)) > 0:
        copied = _step(source, target, min(STEP, allowed), done)
        if not copied:
            break
        done += copied
        if done - synced >= STEP:
            os.fdatasync(target)
            synced = done
    return done


def _step(source: int, target: int, count: int, at: int) -> int:
    """Copy up to ``count`` bytes at offset ``at``; 0 at the end."""
    try:
        copied = os.copy_file_range(source, target, count, at, at)
    except OSError as error:
        if error.errno not in _NOT_FOR_THE_KERNEL:
            raise
        copied = 0
    # on some file systems (/proc) the kernel says 0 where there is something
    return copied or _by_hand(source, target, min(count, _BUFFER), at)


def _by_hand(source: int, target: int, count: int, at: int) -> int:
    data = memoryview(os.pread(source, count, at))
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], at + written)
    return written
