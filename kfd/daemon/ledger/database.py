"""The SQLite database under the ledger: one writer thread with group commit, readers beside it.

Operations from all threads that arrive while a transaction is being made durable share the next
one, so the cost of ``fsync`` is paid per group and not per file. An operation is a function of the
writer's connection; it must not keep the connection. Once :meth:`Database.write` has returned, its
effect is on disk. Killed before: the transaction is as if it had never been.
"""

from __future__ import annotations

import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from kfd.daemon.health import Health
from kfd.daemon.ledger.schema import MIGRATIONS
from kfd.daemon.stage import Stage
from kfd.errors import ConfigError, KfdError, PermissionProblemError

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

GROUP_LIMIT = 256
RETRY_SECONDS = 1.0


class LedgerError(KfdError):
    """The ledger could not be written (its disk is full or failing). Nothing has changed."""

    retry = True


class Database(Stage):
    """The ledger's connection pool and writer thread (named ``ledger``)."""

    def __init__(self, path: Path, health: Health) -> None:
        """Open or make the database and bring its schema up to date, in the calling thread.

        Raises :class:`ConfigError` for a schema from a newer kfd and
        :class:`PermissionProblemError` where the directory or file cannot be used.
        """
        super().__init__("ledger")
        self._path = path
        self._health = health
        self._operations: queue.Queue[tuple[Operation[Any], Future[Any]] | None] = queue.Queue(1024)
        self._local = threading.local()
        self._writer = _open(path)
        self._ended = threading.Event()
        self._change = 0
        self._changed = threading.Condition()  # guards _change

    def submit(self, operation: Operation[T]) -> Future[T]:
        """Queue an operation; its future is done when the effect is durable. Any thread."""
        future: Future[T] = Future()
        self._operations.put((operation, future))
        if self._ended.is_set():
            self._refuse_rest()
        return future

    def write(self, operation: Operation[T]) -> T:
        """Run an operation and wait until it is durable. Raises :class:`LedgerError`."""
        return self.submit(operation).result()

    def write_patiently(self, operation: Operation[T]) -> T:
        """As :meth:`write`, but wait out a full or failing disk, visible in ``status``.

        Raises :class:`LedgerError` only when the ledger is being stopped meanwhile.
        """
        while True:
            try:
                result = self.write(operation)
            except LedgerError as error:
                self._health.report("ledger", "write", str(error), error.fix)
                if self.stopping.wait(RETRY_SECONDS):
                    raise
            else:
                self._health.clear("ledger", "write")
                return result

    def reader(self) -> sqlite3.Connection:
        """The calling thread's own connection, for reading only."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
        return connection

    def close_reader(self) -> None:
        """Let go of the calling thread's connection: a thread that ends leaves it to the collector
        of garbage, which may take its time."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    def size_on_disk(self) -> int:
        """Bytes of the database and its log. Any thread."""
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(one.stat().st_size for one in files if one.exists())

    def wait_for_change(self, seen: int, timeout: float) -> int:
        """Wait up to ``timeout`` seconds for a commit after number ``seen``; the newest number."""
        with self._changed:
            self._changed.wait_for(lambda: self._change != seen, timeout)
            return self._change

    def run(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                self.beat()
                self._commit(group)
        finally:
            self._writer.close()
            self._ended.set()
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Answer what came too late. Any thread, once the writer has ended."""
        with suppress(queue.Empty):
            while True:
                item = self._operations.get_nowait()
                if item is not None:
                    item[1].set_exception(LedgerError("kfd is stopping", fix="start it again"))

    def wake(self) -> None:
        # A full queue wakes the writer by itself; it sees `stopping` once the queue is empty.
        with suppress(queue.Full):
            self._operations.put_nowait(None)

    def _next_group(self) -> list[tuple[Operation[Any], Future[Any]]] | None:
        """The operations that wait now, at least one; None when stopped and nothing is left."""
        group: list[tuple[Operation[Any], Future[Any]]] = []
        while not group:
            with suppress(queue.Empty):
                item = self._operations.get(timeout=RETRY_SECONDS)
                while item is not None:
                    group.append(item)
                    item = self._operations.get_nowait() if len(group) < GROUP_LIMIT else None
            self.beat()
            if not group and self.stopping.is_set():
                return None
        return group

    def _commit(self, group: list[tuple[Operation[Any], Future[Any]]]) -> None:
        """Run a group in one transaction. An operation that fails is undone alone."""
        outcomes: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for operation, future in group:
                outcomes.append((future, *self._attempt(operation)))
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            failure = _explain(error, self._path)
            outcomes = [(future, None, failure) for _, future in group]
        with self._changed:
            self._change += 1
            self._changed.notify_all()
        for future, result, failed in outcomes:
            if failed is None:
                future.set_result(result)
            else:
                future.set_exception(failed)

    def _attempt(self, operation: Operation[Any]) -> tuple[Any, Exception | None]:
        self._writer.execute("SAVEPOINT operation")
        try:
            result = operation(self._writer)
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # the disk, not the operation: the whole group is tried again
            self._writer.execute("ROLLBACK TO operation")
            self._writer.execute("RELEASE operation")
            return None, error
        self._writer.execute("RELEASE operation")
        return result, None


def _explain(error: sqlite3.Error, path: Path) -> LedgerError:
    return LedgerError(
        f"the ledger cannot be written: {error}",
        where=str(path),
        fix=f"free space, or mend the file system of {path.parent}; it is tried again by itself",
    )


def unusable(path: Path, error: OSError) -> PermissionProblemError:
    """The error for a state directory or ledger that can't be used."""
    return PermissionProblemError(
        f"the state directory cannot be used: {error.strerror}",
        where=str(path),
        fix="give it to the daemon's user, or choose another with --state",
    )


def _connect(path: Path) -> sqlite3.Connection:
    # autocommit (isolation_level None): transactions are begun and ended by the writer alone
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _open(path: Path) -> sqlite3.Connection:
    """The writer's connection to an up-to-date database at ``path``, readable by its owner only."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = _connect(path)
    except OSError as error:
        raise unusable(path, error) from error
    except sqlite3.Error as error:
        raise unreadable(error, path) from error
    try:
        _migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise unreadable(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def unreadable(error: sqlite3.Error, path: Path) -> KfdError:
    """Why a ledger couldn't be opened. Only one that is no ledger may be moved away."""
    if isinstance(error, sqlite3.OperationalError):  # full disk, no permission, locked
        return _explain(error, path)
    return ConfigError(
        f"this is not a ledger that can be opened: {error}",
        where=str(path),
        fix="restore it from a backup, or move it away to start with an empty one",
    )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"the ledger has schema {version}, this kfd knows up to {len(MIGRATIONS)}",
            where=str(path),
            fix="install the kfd that wrote it, or a later one",
        )
    if 0 < version < len(MIGRATIONS):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(path, path.with_suffix(f".v{version}"))
    for number in range(version, len(MIGRATIONS)):
        # one transaction a step: killed between two, the next start goes on from here
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )
