"""Renames that replace nothing, or exchange: what the kernel has and Python doesn't."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress

from kfd.daemon.crashpoint import reach

_RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2
_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def renameat2(source: int, name: bytes, target: int, new: bytes, flags: int) -> bool:
    """Rename ``name`` in the directory ``source`` to ``new`` in ``target`` (descriptors); false
    where the file system doesn't know the flags. Raises :class:`OSError`."""
    if _renameat2(source, name, target, new, flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), os.fsdecode(new))


def rename_new(source: int, name: bytes, target: int, new: bytes) -> None:
    """Rename ``name`` in the directory ``source`` to ``new`` in ``target`` (descriptors).

    Raises :class:`FileExistsError` if that is taken, and :class:`OSError`. Where the file system
    has no such rename, it is done by a second link: killed in between, the file has both names.
    """
    if not renameat2(source, name, target, new, _RENAME_NOREPLACE):
        _link_and_unlink(source, name, target, new)


def _link_and_unlink(source: int, name: bytes, target: int, new: bytes) -> None:
    try:
        os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        mine = os.stat(name, dir_fd=source, follow_symlinks=False)
        theirs = os.stat(new, dir_fd=target, follow_symlinks=False)
        if not os.path.samestat(mine, theirs):
            raise
    reach("publish.linked")
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=source)
