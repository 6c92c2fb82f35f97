"""Taking copies of files into the spool, for one request of one user.

It runs in the thread of that user's connection: a descriptor on a file system that hangs holds
nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from kfd.daemon.admission.copying import copy
from kfd.daemon.admission.spool import Spool
from kfd.daemon.admission.turns import Writer
from kfd.daemon.crashpoint import reach
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger.spooled import counted
from kfd.errors import KfdError

_TRIES = 3  # for a file that changes while it is copied
_GROWTH = 1024 * 1024  # bytes reserved at a time for a file that doesn't say how long it is


class Intake:
    """The copies of one request; those not kept at the end of ``with`` are removed."""

    def __init__(self, spool: Spool, uid: int, gone: Callable[[], bool]) -> None:
        """``gone`` tells that nobody waits for them any longer."""
        self._spool = spool
        self._uid = uid
        self._gone = gone
        self._made: dict[bytes, int] = {}  # path → the bytes that are reserved

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        for path in list(self._made):
            self._discard(path)

    def copy(self, descriptor: int, version: FileVersion, *, sized: bool) -> FileVersion:
        """``version`` with a copy, whose content is on disk once :meth:`sync` has returned.

        ``sized``: the file says how long it is, and changes can be seen; else it is read to its
        end, whatever it says. Raises :class:`KfdError`.
        """
        try:
            if not sized:
                return self._read_to_end(descriptor, version)
            for _ in range(_TRIES):
                copied = self._copied(descriptor, version)
                if copied is not None:
                    return copied
                status = os.fstat(descriptor)
                version = FileVersion.of(version.path, version.source, status, inodes=True)
        except OSError as error:
            raise KfdError(
                f"kfd can't read it later, and can't copy it now: {error.strerror}",
                fix="free space in kfd's state directory, or mend its disk or that of the file",
            ) from error
        raise KfdError(
            "it is being written: it changed while it was copied", fix="send it when it is finished"
        )

    def sync(self) -> None:
        """All copies that were made are durable after this."""
        if self._made:
            self._spool.sync()
            reach("spool.synced")

    def keep(self, path: bytes) -> None:
        """The ledger holds this copy."""
        del self._made[path]

    def _copied(self, descriptor: int, version: FileVersion) -> FileVersion | None:
        """None if it changed meanwhile."""

        def left(done: int) -> int:
            return version.size - done

        with self._making(version.size) as path:
            copied = self._fill(path, descriptor, left, version)
        now = FileVersion.of(version.path, version.source, os.fstat(descriptor), inodes=True)
        if copied.size == version.size and now.same_content(version):
            return copied
        self._discard(path)
        return None

    def _read_to_end(self, descriptor: int, version: FileVersion) -> FileVersion:
        def left(done: int) -> int:
            if done >= self._made[path]:
                self._spool.reserve(self._uid, _GROWTH)
                self._made[path] += _GROWTH
            return self._made[path] - done

        now = time.time_ns()  # it can't say its own time either
        with self._making(0) as path:
            copied = self._fill(path, descriptor, left, replace(version, mtime_ns=now))
        self._spool.unreserve(self._uid, self._made[path] - counted(copied.size))
        self._made[path] = counted(copied.size)
        return copied

    @contextmanager
    def _making(self, size: int) -> Iterator[bytes]:
        """The path of a new copy, with room for it; of one that can't be made nothing is left."""
        self._spool.reserve(self._uid, counted(size))
        path = self._spool.new_path()
        self._made[path] = counted(size)
        try:
            yield path
        except BaseException:
            self._discard(path)
            raise

    def _fill(
        self,
        path: bytes,
        descriptor: int,
        left: Callable[[int], int],
        version: FileVersion,
    ) -> FileVersion:
        """Make the file; ``version`` with its size, and its time as this file system keeps it.

        ``left`` gets how many bytes are copied and gives how many more there may be. A copy of one
        step takes one turn.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with Writer(self._spool.turns, self._uid) as writer:
            writer.next(self._check_wanted)
            target = os.open(path, flags, 0o600)
            try:
                reach("spool.created")
                copy(descriptor, target, partial(self._before_step, writer, left))
                reach("spool.copied")
                os.utime(target, ns=(version.mtime_ns, version.mtime_ns))
                os.fsync(target)
                made = os.fstat(target)
            finally:
                os.close(target)
        return replace(version, size=made.st_size, mtime_ns=made.st_mtime_ns, copy=path)

    def _discard(self, path: bytes) -> None:
        with suppress(OSError):  # the next start removes it
            os.unlink(path)
        self._spool.unreserve(self._uid, self._made.pop(path))

    def _before_step(self, writer: Writer, left: Callable[[int], int], done: int) -> int:
        """How many bytes more there may be, once it is this copy's turn again."""
        allowed = left(done)
        if done and allowed:
            writer.next(self._check_wanted)
        self._check_wanted()
        self._spool.check_disk(allowed)
        return allowed

    def _check_wanted(self) -> None:
        if self._gone() or self._spool.stopping.is_set():
            raise KfdError("given up while it was copied", fix="send it again")
