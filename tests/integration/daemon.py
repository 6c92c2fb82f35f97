"""``kfd`` as a real process, and ``kfdctl`` against it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from tests.rawclient import Raw

Routes = dict[str, dict[str, Any]]


class Notifications:
    """The socket of the service manager's side of sd_notify, read until closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ready = threading.Event()
        self.words: list[bytes] = []  # all that was said; written by the thread only
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, name="notifications")
        self._thread.start()

    def close(self) -> None:
        """End the reading thread: an empty datagram is never sent by sd_notify."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as closer:
            closer.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while message := self._socket.recv(4096):
            self.words += message.split(b"\n")
            if b"READY=1" in message.split(b"\n"):
                self.ready.set()


class Daemon:
    """One ``kfd`` with a home of its own: configuration, state, socket and log.

    As a context manager it never leaves a process behind; it isn't started by entering. It may be
    started again after it ended, with the same state.
    """

    def __init__(
        self,
        home: Path,
        bootstrap: str,
        *,
        uploads: Routes | None = None,
        downloads: Routes | None = None,
        **settings: Any,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.config = home / "kfd.yaml"
        self.state = home / "state"
        self.log_file = home / "kfd.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []  # a command that becomes the daemon, as setpriv does
        self.environment: dict[str, str] = {}  # beside that of the tests; read at the next start
        # Not in home: the name of a Unix socket has at most 107 bytes.
        self._sockets = tempfile.TemporaryDirectory(prefix="kfd-")
        self.socket = Path(self._sockets.name) / "kfd.sock"
        self._notifications = Notifications(Path(self._sockets.name) / "notify")
        self.configure(bootstrap, uploads=uploads, downloads=downloads, **settings)

    def configure(
        self,
        bootstrap: str,
        *,
        uploads: Routes | None = None,
        downloads: Routes | None = None,
        **settings: Any,
    ) -> None:
        """Write kfd.yaml; read at the next start."""
        kafka = {"bootstrap.servers": bootstrap, **settings.pop("kafka", {})}
        routes = {"uploads": uploads or {}, "downloads": downloads or {}}
        self.config.write_text(yaml.safe_dump({"kafka": kafka, **routes, **settings}))

    def start(self, deadline: float = 90) -> None:
        """Start it and wait until it says READY."""
        self.spawn()
        end = time.monotonic() + deadline
        while not self._notifications.ready.wait(0.05):
            if not self.running or time.monotonic() > end:
                pytest.fail(f"kfd is not READY (exit status {self._exit_status()}):\n{self.log()}")

    def came_up(self, deadline: float = 90) -> bool:
        """Wait until it is READY or has ended; whether it is READY."""
        end = time.monotonic() + deadline
        while not self._notifications.ready.wait(0.05) and self.running:
            assert time.monotonic() < end, self.log()
        return self._notifications.ready.is_set()

    def spawn(self) -> None:
        """Start it without waiting, for configurations that it refuses."""
        assert not self.running
        self._notifications.ready.clear()
        command = [*self.prefix, sys.executable, "-m", "kfd.daemon"]
        command += ["--config", str(self.config), "--state", str(self.state)]
        command += ["--socket", str(self.socket)]
        environment = os.environ | {"NOTIFY_SOCKET": str(self._notifications.path)}
        environment |= self.environment
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def rss(self) -> int:
        """Bytes of memory that it has now."""
        pages = self._proc("statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """How many it has open now."""
        return len(os.listdir(self._proc("fd")))

    def _proc(self, name: str) -> Path:
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/{name}")

    def kill9(self) -> None:
        """SIGKILL, as in a crash; returns when it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, deadline: float = 60) -> int:
        """SIGTERM, as systemd does it; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline: float = 60) -> int:
        """Wait for its own end; the exit status."""
        assert self.process is not None
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            pytest.fail(f"kfd did not end within {deadline} s:\n{self.log()}")

    def ctl(self, *arguments: str | Path, deadline: float = 60) -> subprocess.CompletedProcess[str]:
        """Run kfdctl against it."""
        return subprocess.run(
            self.ctl_command(*arguments),
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )

    def ctl_command(self, *arguments: str | Path) -> list[str]:
        """The command line of kfdctl against it, for tests that run it themselves."""
        command = [sys.executable, "-m", "kfd.ctl", "--socket", str(self.socket)]
        return command + [str(argument) for argument in arguments]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the control socket answers, without a kfdctl: tests ask very often."""
        with Raw(self.socket) as client:
            answer = client.call(method, parameters)
        assert "error" not in answer, answer
        return dict(answer["parameters"])

    def status(self) -> dict[str, Any]:
        """The interface's type Status."""
        return dict(self.call("GetStatus")["status"])

    def notified(self, word: str) -> int:
        """How often it has said this to the service manager, in all its runs."""
        return self._notifications.words.count(word.encode())

    def log(self) -> str:
        """Everything that it has written so far, of all its runs."""
        return self.log_file.read_text(errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.running:
            self.kill9()
        self._notifications.close()
        self._sockets.cleanup()
        if error is not None and self.log_file.exists():
            print(f"--- {self.log_file}\n{self.log()}")

    def _exit_status(self) -> int | None:
        return self.process.poll() if self.process is not None else None
