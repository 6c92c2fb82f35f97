"""``kfdctl send -``: standard input becomes an unnamed file, of which the daemon gets a descriptor.

The daemon takes only regular files, whose length is known and which can be read again; so it is
here that a pipe that never ends, or a full disk, is noticed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from typing import IO

from kfd.ctl.render import ProgressLine
from kfd.errors import KfdError
from kfd.units import human_size

_BUFFER = 1024 * 1024  # bytes
_LARGE_FILES = "/var/tmp"  # noqa: S108 - what is made there has no name; /tmp may be in memory


def collect(limit: int, opened: ExitStack) -> int:
    """A descriptor of a file with all of standard input, which ``opened`` closes.

    Raises :class:`KfdError`, also for more than ``limit`` bytes.
    """
    directory = os.environ.get("TMPDIR") or _LARGE_FILES
    try:
        file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - by ``opened``
        opened.callback(file.close)
        _fill(file, limit)
        os.fchmod(file.fileno(), 0o666 & ~_umask())
    except OSError as error:
        raise KfdError(
            f"standard input can't be kept in {directory}: {error.strerror}",
            fix="free space there, or name another directory in TMPDIR",
        ) from None
    return file.fileno()


def _fill(file: IO[bytes], limit: int) -> None:
    line = ProgressLine()
    size = 0
    try:
        while data := _read():
            size += len(data)
            if size > limit:
                raise KfdError(
                    f"standard input has more than {human_size(limit)}: spool_max of kfd",
                    fix="write it to a file that kfd can read, or raise spool_max",
                )
            _write(file, data)
            line.show(f"{human_size(size)} of standard input   (Ctrl-C gives it up)")
    finally:
        line.clear()


def _read() -> bytes:
    try:
        return os.read(sys.stdin.fileno(), _BUFFER)
    except OSError as error:
        raise KfdError(
            f"standard input can't be read: {error.strerror}", fix="redirect or pipe a file into it"
        ) from None


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
