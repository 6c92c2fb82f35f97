"""The spool: kfd's own copies of files that people may read and kfd may not, or not later.

A copy is whole and durable before its transfer is in the ledger, so that accepted means accepted;
it is removed after the ledger has given it up. Killed in between, what is left is a file that no
transfer holds, which the next start removes.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from kfd.daemon.admission.quota import Quota
from kfd.daemon.admission.turns import Turns
from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import Ledger, LedgerError, spooled
from kfd.daemon.ledger.database import unusable
from kfd.daemon.ledger.spooled import Copy
from kfd.daemon.stage import Stage
from kfd.errors import KfdError
from kfd.units import human_size

log = logging.getLogger(__name__)

PAGE = 500  # copies given up in one transaction
MAX_FREE = 2**30  # bytes; of the disk a twentieth stays free, but not more than this
_EXPIRE_SECONDS = 3600.0  # between two looks for copies that are too old
_GATHER_SECONDS = 0.2  # in which what is over comes together


class Spool(Stage):
    """Named ``spool``: its thread removes copies that are of no more use. They are made by an
    :class:`kfd.daemon.admission.intake.Intake`, in the control server's threads."""

    def __init__(
        self,
        ledger: Ledger,
        directory: Path,
        limit: int,
        history: float,
        moving: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make ``directory`` ready: no copies are there but those that the ledger holds.

        ``limit``: bytes; ``history``: seconds for which what has ended is remembered; ``moving``
        tells whether there is data on its way to which copies give way. Raises
        :class:`kfd.errors.PermissionProblemError` and :class:`LedgerError`.
        """
        super().__init__("spool")
        self.turns = Turns(moving)
        self._ledger = ledger
        self._directory = os.path.abspath(os.fsencode(directory))
        self.history = history  # seconds; may be set by any thread
        self._quota = Quota(limit)
        ledger.write(lambda db: spooled.move(db, self._directory))
        held = spooled.held(ledger.reader())
        for one in held:
            self._quota.count(one.uid, one.size)
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._sweep({one.name for one in held})
        except OSError as error:
            raise unusable(Path(os.fsdecode(self._directory)), error) from error

    @property
    def used(self) -> int:
        """Bytes of all copies, those that are being made included. Any thread."""
        return self._quota.used

    @property
    def limit(self) -> int:
        """Bytes that all copies together may have. May be set by any thread."""
        return self._quota.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._quota.limit = limit

    def run(self) -> None:
        seen, due = 0, 0.0
        while not self.stopping.is_set():
            self.beat()
            try:
                if self._quota.used and spooled.any_over(self._ledger.reader()):
                    self._drop(self._ledger.write(lambda db: spooled.release(db, PAGE)))
                    continue
                if time.monotonic() >= due:
                    due = time.monotonic() + _EXPIRE_SECONDS
                    self._expire()
            except LedgerError as error:
                log.debug("the spool waits for the ledger: %s", error)
            self.stopping.wait(_GATHER_SECONDS)
            seen = self._ledger.wait_for_change(seen, 1.0)

    def _expire(self) -> None:
        before = time.time() - self.history
        while copies := self._ledger.write(lambda db: spooled.expire(db, before, PAGE)):
            self._drop(copies)
            self.beat()

    def _sweep(self, held: set[str]) -> None:
        """Remove what an earlier life has left behind, copied but never accepted, or given up."""
        for name in os.listdir(self._directory):
            if os.fsdecode(name) not in held:
                os.unlink(os.path.join(self._directory, name))

    def _drop(self, copies: Iterable[Copy]) -> None:
        """Remove copies that the ledger has given up."""
        reach("spool.given-up")
        for one in copies:
            self._remove(os.path.join(self._directory, os.fsencode(one.name)))
            self._quota.give_back(one.uid, one.size)
            reach("spool.removed")

    def _remove(self, path: bytes) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:  # somebody has tidied up
            pass
        except OSError as error:
            log.warning("%s stays until the next start: %s", os.fsdecode(path), error.strerror)

    # for an Intake, in the control server's threads

    def new_path(self) -> bytes:
        """The path of a new copy."""
        return os.path.join(self._directory, secrets.token_hex(16).encode())

    def reserve(self, uid: int, size: int) -> None:
        """Have room for ``size`` more bytes of a user; raises :class:`KfdError` where there is
        none, also after copies of that one's that are of least use were given up."""
        while not self._quota.take(uid, size):
            missing = self._quota.missing(uid, size)
            if missing > spooled.spare(self._ledger.reader(), uid):
                raise self._too_much(uid, size)
            copies = self._ledger.write(partial(spooled.make_room, uid=uid, size=missing))
            self._drop(copies)

    def unreserve(self, uid: int, size: int) -> None:
        """So many bytes aren't needed."""
        self._quota.give_back(uid, size)

    def check_disk(self, size: int) -> None:
        """Raise :class:`KfdError` where the disk has no room for ``size`` more bytes.

        The ledger lies on it as well, and needs to be written.
        """
        disk = os.statvfs(self._directory)
        if disk.f_files and disk.f_favail < disk.f_files // 20:
            raise KfdError(
                "kfd can't read it later, and the disk of its spool has room for few more files",
                fix=f"remove files from the disk of {os.fsdecode(self._directory)}, or let kfd's"
                " user read this one where it is",
            )
        floor = min(disk.f_blocks * disk.f_frsize // 20, MAX_FREE)
        if disk.f_bavail * disk.f_frsize - size < floor:
            raise KfdError(
                "kfd can't read it later, and the disk of its spool has no room for"
                f" {human_size(size)} more",
                fix=f"free space in {os.fsdecode(self._directory)}, or let kfd's user read the"
                " file where it is",
            )

    def sync(self) -> None:
        """Make the names of all copies durable. Raises :class:`KfdError`."""
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise KfdError(
                f"the spool can't be written: {error.strerror}",
                fix=f"mend the disk of {os.fsdecode(self._directory)}, then send it again",
            ) from error

    def _too_much(self, uid: int, size: int) -> KfdError:
        most = self._quota.most(uid)
        return KfdError(
            f"kfd can't read it later, and its spool has no room for {human_size(size)} more:"
            f" of {human_size(self.limit)} one user may have {human_size(most)} now",
            fix="wait until others are sent (kfdctl list --state sending), let kfd's user read the"
            " file where it is, or raise spool_max",
        )
