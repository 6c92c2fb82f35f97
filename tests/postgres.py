"""A real PostgreSQL server of the tests' own: in a temporary directory, by initdb and pg_ctl, as a
user who isn't root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.support import unavailable

PASSWORD = "se@cret:w%rd"
_TIMEOUT = 120


class PostgreSQL:
    """One server. ``url`` of a database has no password in it."""

    def __init__(self, directory: Path, user: str | None) -> None:
        self._data = directory / "data"
        self._user = user  # None: this one
        self.port = _free_port()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://kfd@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """The cluster, with the user ``kfd``, whom only the password lets in."""
        secret = self._data.with_name("password")
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", str(self._data), "-U", "kfd", "--auth=scram-sha-256",
            f"--pwfile={secret}", "--no-sync", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip

    def start(self) -> None:
        options = (
            f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
            " -c fsync=off -c shared_buffers=16MB"
        )
        log = str(self._data.with_name("log"))
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", log, "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """``immediate``: as by a crash; ``fast``: connections are ended, all else is finished."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self._data), "-m", mode)

    def restart(self) -> None:
        self.stop()
        self.start()

    def execute(self, database: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement in a connection of its own; the rows that it gives."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="kfd", password=PASSWORD, dbname=database,
            autocommit=True, connect_timeout=30,
        ) as connection:  # fmt: skip
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def drop_connections(self, database: str) -> int:
        """End all connections to a database, as a network or an administrator does; how many."""
        ended = self.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            database,
        )
        return len(ended)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Takes connections, and answers nobody."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:  # one that is gone was a connection's
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        first = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(binaries() / program), *arguments],
            user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=_TIMEOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def binaries() -> Path:
    """Where the server's programs are: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        unavailable("no PostgreSQL server is installed (Debian: postgresql)")
    return Path(os.path.realpath(elsewhere)).parent


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """A new server, gone afterwards."""
    binaries()
    directory = Path(tempfile.mkdtemp(prefix="kfd-pg-"))
    user = None
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = nobody.pw_name
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    server = PostgreSQL(directory, user)
    try:
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
