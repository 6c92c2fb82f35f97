"""kfdctl as people and scripts run it: a process of its own, with pipes or on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from tests.support import CHECKOUT

DEADLINE = 30  # seconds


def environment(**more: str) -> dict[str, str]:
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**plain, "PYTHONPATH": str(CHECKOUT), "LANG": "C.UTF-8", "TERM": "xterm"} | more


def start(*arguments: str | Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kfd.ctl", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        env=environment(**more),
    )


def run(*arguments: str | Path, **more: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with start(*arguments, **more) as process:
        out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, out, err


def run_json(*arguments: str | Path) -> dict[str, Any]:
    code, out, err = run("--json", *arguments)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document.pop("version") == 1
    return dict(document)


def shown_lines(written: str) -> list[str]:
    """What of it a terminal shows, without its colours."""
    uncoloured = re.sub(r"\x1b\[[0-9;]*m", "", written)
    return re.sub(r"[^\n]*\r\x1b\[K", "", uncoloured).replace("\r", "").splitlines()


class Terminal:
    """kfdctl on a terminal of 80 columns, or as many as are given."""

    def __init__(self, *arguments: str | Path, columns: int = 80, **more: str) -> None:
        size = struct.pack("4H", 50, columns, 0, 0)
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(
                sys.executable,
                [sys.executable, "-m", "kfd.ctl", *map(str, arguments)],
                environment(**more),
            )
        self.screen = ""

    @property
    def lines(self) -> list[str]:
        """What stands on the screen."""
        return shown_lines(self.screen)

    def read_until(self, pattern: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while not re.search(pattern, self.screen):
            assert time.monotonic() < deadline, self.screen
            if not self._read(0.1):
                break
        assert re.search(pattern, self.screen), self.screen
        return self.screen

    def read_some(self) -> str:
        """What is on the screen by now."""
        self._read(0.1)
        return self.screen

    def _read(self, patience: float) -> bool:
        """False once the process has closed the terminal."""
        if not select.select([self.master], [], [], patience)[0]:
            return True
        try:
            self.screen += os.read(self.master, 65536).decode()
        except OSError:
            return False
        return True

    def interrupt(self) -> None:
        os.write(self.master, b"\x03")

    def end(self) -> int:
        """The exit code, once all that it wrote is read."""
        deadline = time.monotonic() + DEADLINE
        while self._read(0.1):
            assert time.monotonic() < deadline, self.screen
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
