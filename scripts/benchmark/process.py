"""Processes that are measured: what they use, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

LONGEST_SECONDS = 300.0  # for anything that is waited for
END_SECONDS = 60.0


class BenchmarkError(Exception):
    """Why there is no figure."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used: its peak resident memory and its processor time while measured."""

    rss_mb: float  # of 1,000,000 bytes
    cpu_seconds: float

    def since(self, before: Usage) -> Usage:
        """The peak, and the processor time after ``before``."""
        return Usage(self.rss_mb, round(self.cpu_seconds - before.cpu_seconds, 2))


def usage(pid: int) -> Usage:
    """Of a process, since its start; from /proc, since rusage's peak may be its parent's.

    Raises :class:`ProcessLookupError`, or another OSError, if it doesn't run.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    if peak is None:
        raise ProcessLookupError(f"process {pid} has ended")
    # after the name, which may hold anything: fields 3 and on, of which 14 and 15 are the times
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Usage(round(int(peak.split()[1]) * 1024 / 1e6, 1), ticks / os.sysconf("SC_CLK_TCK"))


def wait_for(what: str, look: Callable[[], T | None], every: float = 0.25) -> T:
    """What ``look`` gives as soon as that is true; it is called ``every`` so many seconds.

    Raises :class:`BenchmarkError` after :data:`LONGEST_SECONDS`.
    """
    deadline = time.monotonic() + LONGEST_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {LONGEST_SECONDS:.0f} s in vain for {what}")
        time.sleep(every)
    return found


class Process:
    """A program with its output in a file. As a context manager it is ended when left."""

    def __init__(
        self,
        command: Sequence[object],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        dialogue: bool = False,
    ) -> None:
        """``dialogue``: standard input and output are pipes, for :meth:`tell` and :meth:`hear`."""
        self._log = log
        self._name = str(command[0])
        self._used = Usage(0, 0)
        pipe = subprocess.PIPE if dialogue else None
        with log.open("ab") as file:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=pipe or file,
                stderr=file,
            )

    def __enter__(self) -> Self:
        try:
            self.prepare()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(signal.SIGTERM)

    def prepare(self) -> None:
        """Wait until it can be measured; a plain program can be at once."""

    def check(self) -> None:
        """Raise :class:`BenchmarkError` with the end of its log unless it runs."""
        if self._popen.poll() is not None:
            raise self.failed(f"exited with {self._popen.returncode}")

    def failed(self, reason: str) -> BenchmarkError:
        """An error that shows the end of its log."""
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
        return BenchmarkError(f"{self._name}: {reason}\n{tail}")

    def usage(self) -> Usage:
        """What it used since its start; once it has ended in order, until the last look."""
        try:
            self._used = usage(self._popen.pid)
        except OSError:
            if self._popen.wait(END_SECONDS):
                self.check()
        return self._used

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def hear(self) -> str:
        """The next line of its standard output; only with ``dialogue``."""
        assert self._popen.stdout is not None
        line: bytes = self._popen.stdout.readline()
        if not line:
            self._popen.wait(END_SECONDS)
            self.check()
        return line.decode().rstrip("\n")

    def end(self, number: int) -> None:
        """Send a signal and wait; killed if it takes too long."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
