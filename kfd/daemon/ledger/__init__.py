"""The ledger: the SQLite database in the state directory that says what was accepted,
acknowledged, received and published. The only place that knows SQL.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from kfd.daemon.health import Health
from kfd.daemon.ledger.database import Database, LedgerError, unreadable, unusable
from kfd.errors import ConfigError

__all__ = ["Ledger", "LedgerError"]


class Ledger(Database):
    """The database and the identity that it gives the daemon.

    ``origin`` is the sending name, fixed at first start; ``instance`` are 16 random bytes made
    with the ledger, so that a ledger that was lost and made anew can be told from the old one.
    """

    def __init__(self, path: Path, health: Health, *, origin: str | None, default: str) -> None:
        """Open or make the ledger. ``origin``: as configured; ``default``: for a first start.

        Raises :class:`ConfigError` where the configured origin is not the ledger's own, and what
        :class:`Database` raises.
        """
        self._lock = _lock(path)
        try:
            super().__init__(path, health)
            self.origin, self.instance = self._identify(origin, default)
        except BaseException:
            os.close(self._lock)
            raise

    def run(self) -> None:
        try:
            super().run()
        finally:
            os.close(self._lock)

    def _identify(self, origin: str | None, default: str) -> tuple[str, bytes]:
        """Origin and instance of this ledger; given to it at its first start."""
        try:
            self._writer.execute(
                "INSERT OR IGNORE INTO identity VALUES ('origin', ?), ('instance', ?)",
                ((origin or default).encode(), os.urandom(16)),
            )
            identity: dict[str, bytes] = dict(
                self._writer.execute("SELECT * FROM identity").fetchall()
            )
        except sqlite3.Error as error:
            self._writer.close()
            raise unreadable(error, self._path) from error
        own = identity["origin"].decode()
        if origin not in (None, own):
            self._writer.close()
            raise ConfigError(
                f"origin is {origin!r}, but this ledger has sent as {own!r}",
                where=str(self._path),
                fix=f"set origin: {own}, or give the new name a state directory of its own",
            )
        return own, identity["instance"]


def _lock(path: Path) -> int:
    """Take the ledger for this process; the lock ends with it, however it ends."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ConfigError(
            "another kfd uses this state directory",
            where=str(path.parent),
            fix="stop that one, or give this one a directory of its own with --state",
        ) from error
    return lock
