"""System calls that fail, by ``strace``: the faults of a disk without a disk.

A call that is made to fail isn't made at all. ``strace`` counts the calls of each thread for
itself, from when it was attached: the N-th call is the N-th of every thread.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.support import eventually, unavailable

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += .*$", re.MULTILINE)
_INJECTED = " (INJECTED)"


@dataclass(frozen=True)
class Injection:
    """``when`` is strace's: ``3`` the third call, ``3+`` that and all later ones."""

    call: str
    error: str
    when: str = "1+"

    def __str__(self) -> str:
        return f"{self.call}:error={self.error}:when={self.when}"


@dataclass(frozen=True)
class Call:
    """A call as strace shows it: descriptors with the paths that they stand for."""

    name: str
    arguments: str
    failed: bool  # made to fail


def require_strace() -> None:
    """Skip (in CI: fail) where it isn't installed."""
    if shutil.which("strace") is None:
        unavailable("strace is not installed")


class Strace:
    """Makes calls of one process fail, and counts how many did. ``log`` is a new file."""

    def __init__(
        self, injections: Sequence[Injection], log: Path, *, watched: Sequence[str] = ()
    ) -> None:
        """``watched``: calls that are only to be listed."""
        require_strace()
        self._log = log
        traced = [*(one.call for one in injections), *watched]
        self._options = ["-f", "-q", "-y", "-o", str(log), f"--trace={','.join(traced)}"]
        self._options += [f"--inject={one}" for one in injections]

    def prefix(self) -> list[str]:
        """The start of a command line whose process is traced from its first call on.

        The process is that of the command itself, not strace's.
        """
        return ["strace", "-D", *self._options]

    def hits(self) -> int:
        """How many calls have failed so far."""
        return self._text().count(_INJECTED)

    def calls(self) -> list[Call]:
        """All that were traced so far, in their order; but none that others came between."""
        found = _CALL.finditer(self._text())
        return [Call(one[1], one[2], _INJECTED in one[0]) for one in found]

    def _text(self) -> str:
        return self._log.read_text(errors="backslashreplace") if self._log.exists() else ""

    def attached(self, pid: int) -> Attached:
        """To a process that runs; all its threads, and those to come."""
        return Attached(["strace", *self._options, "-p", str(pid)], pid, self._log)


class Attached:
    """While entered, the calls fail; left before, the process goes on as if nothing had been."""

    def __init__(self, command: Sequence[str], pid: int, log: Path) -> None:
        self._command = command
        self._pid = pid
        self._said = log.with_suffix(".said")

    def __enter__(self) -> Self:
        with self._said.open("wb") as said:
            self._strace = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        eventually(self._traces_all, 15)
        return self

    def __exit__(self, *_: object) -> None:
        self._strace.send_signal(signal.SIGINT)  # it lets go of the process, and ends
        self._strace.wait(15)

    def _traces_all(self) -> bool:
        if self._strace.poll() is not None:
            said = self._said.read_text(errors="backslashreplace").strip()
            if "Operation not permitted" in said:
                unavailable(f"no process can be traced here: {said}")
            pytest.fail(f"strace ended: {said}")
        tasks = Path(f"/proc/{self._pid}/task").glob("*/status")
        return all("TracerPid:\t0\n" not in task.read_text("ascii") for task in tasks)
