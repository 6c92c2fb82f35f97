"""A file that gets its name when it is whole and durable, or never."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kfd.errors import KfdError

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def appearing(file: Path, mode: int = 0o600, *, replace: bool = True) -> Iterator[int]:
    """A new file beside ``file``, whose descriptor this gives; it gets its name at the end.

    With ``replace``, a file that has that name is replaced, else it stays; a device, a FIFO or a
    link stays in any case. Raises :class:`KfdError`.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        _check_replaceable(file, replace=replace)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _name(temporary, file, replace=replace)
        _sync(file.parent)
    except OSError as error:
        raise KfdError(
            f"can't be written: {error.strerror}", where=str(file), fix="give another FILE"
        ) from None
    finally:
        with suppress(OSError):  # it has its name by now
            os.unlink(temporary)


def _check_replaceable(file: Path, *, replace: bool) -> None:
    """For root a rename over ``/dev/null`` would succeed."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(file.lstat().st_mode):
            raise KfdError(
                "is there already, and is no regular file", where=str(file), fix="give another FILE"
            )
        if not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _name(temporary: Path, file: Path, *, replace: bool) -> None:
    if replace:
        _check_replaceable(file, replace=True)  # as it is now: hours may have gone by
        os.rename(temporary, file)
        return
    try:
        os.link(temporary, file)  # fails where there is one
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(file):
            raise
        os.rename(temporary, file)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
