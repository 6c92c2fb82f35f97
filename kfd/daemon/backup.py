"""Backups of the ledger: one at a time, into a file that whoever asks has opened.

The copy is made in the state directory first, for SQLite needs a name, and the daemon may not write
where people keep their backups.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kfd.daemon.admission import copying
from kfd.daemon.ledger import Ledger, copies
from kfd.errors import KfdError, UsageError
from kfd.units import human_size

_LEFT_FREE = 2**28  # bytes of the ledger's disk that stay free beside the copy


class Backups:
    """Called in the control server's threads. The lock is held by the one who makes a backup."""

    def __init__(self, ledger: Ledger, state_directory: Path) -> None:
        """Removes what a backup has left that was killed."""
        self._ledger = ledger
        self._copy = state_directory / "ledger.backup"
        self._lock = threading.Lock()
        self._remove()

    def make(self, descriptor: int, gone: Callable[[], bool]) -> int:
        """Write a copy of the ledger into the empty file ``descriptor``; its bytes.

        ``gone`` tells whether nobody waits for it any more. Raises :class:`KfdError`.
        """
        _check_target(descriptor)
        if not self._lock.acquire(blocking=False):
            raise KfdError("a backup is being made already", fix="wait until it is done")
        try:
            self._check_room()
            os.close(os.open(self._copy, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            copies.copy(self._ledger.reader(), self._copy)
            return self._hand_over(descriptor, gone)
        except OSError as error:
            raise KfdError(
                f"the backup can't be written: {error.strerror}", fix="free space there"
            ) from error
        finally:
            self._remove()
            self._lock.release()

    def _check_room(self) -> None:
        """The ledger itself needs to be written meanwhile."""
        needed = self._ledger.size_on_disk() + _LEFT_FREE
        if shutil.disk_usage(self._copy.parent).free < needed:
            raise KfdError(
                f"no room for a copy of the ledger in {self._copy.parent}",
                fix=f"have {human_size(needed)} free there",
            )

    def _hand_over(self, descriptor: int, gone: Callable[[], bool]) -> int:
        def allowed(_: int) -> int:
            if gone():
                raise KfdError("nobody waits for the backup any more", fix="ask for it again")
            return copying.STEP

        source = os.open(self._copy, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return copying.copy(source, descriptor, allowed)
        finally:
            os.close(source)

    def _remove(self) -> None:
        for suffix in ("", "-journal"):
            with suppress(FileNotFoundError):
                self._copy.with_name(self._copy.name + suffix).unlink()


def _check_target(descriptor: int) -> None:
    """Raise :class:`UsageError` for what isn't an empty file, open for writing."""
    status = os.fstat(descriptor)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    writable = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_size
        or not writable
        or flags & (os.O_PATH | os.O_APPEND)
    ):
        raise UsageError("a backup needs an empty file, open for writing", fix="pass one")
