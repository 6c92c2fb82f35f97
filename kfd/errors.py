"""The one tree of errors that kfd raises on purpose.

An error is part of the interface: it says what is wrong (``what``), where (``where``: a file and
line, a path, a socket), and what to do about it (``fix``). ``exit_code`` is what a program that
ends because of it returns; ``retry`` tells whether doing the same again later can succeed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``kfdctl`` (0 to 130) and of the daemon (70 and above, from sysexits.h)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_PERMITTED = 4
    TRANSFER_FAILED = 10
    NO_SUCH_TRANSFER = 12
    BUG = 70
    TIMED_OUT = 75
    PERMISSION = 77
    CONFIGURATION = 78
    INTERRUPTED = 130


class KfdError(Exception):
    """Anything that kfd refuses or cannot do. The text is for people and never holds a secret."""

    exit_code: ExitCode = ExitCode.FAILED
    retry: bool = False

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class UsageError(KfdError):
    """The command line or the request is not one that kfd knows."""

    exit_code = ExitCode.USAGE


class NotRunningError(KfdError):
    """Nothing answers at the control socket."""

    exit_code = ExitCode.NOT_RUNNING


class NotPermittedError(KfdError):
    """The caller may not do this."""

    exit_code = ExitCode.NOT_PERMITTED


class TransferFailedError(KfdError):
    """A transfer ended without reaching what was asked for."""

    exit_code = ExitCode.TRANSFER_FAILED


class NoSuchTransferError(KfdError):
    """No transfer has that id."""

    exit_code = ExitCode.NO_SUCH_TRANSFER


class TimedOutError(KfdError):
    """The wait is over; the work goes on."""

    exit_code = ExitCode.TIMED_OUT
    retry = True


class ConfigError(KfdError):
    """The configuration cannot be used. ``faults`` holds every fault found, this one included."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", faults: tuple[KfdError, ...] = ()
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.faults: tuple[KfdError, ...] = faults or (self,)


class PermissionProblemError(KfdError):
    """The daemon may not use a file, directory or socket that its configuration names."""

    exit_code = ExitCode.PERMISSION


class InternalError(KfdError):
    """A bug: a stage died or an invariant broke. systemd starts the daemon again."""

    exit_code = ExitCode.BUG


def all_of(errors: Iterable[KfdError]) -> KfdError:
    """What to raise for these (one at least): the only one, or all as faults of a configuration."""
    faults = tuple(fault for error in errors for fault in faults_of(error))
    if len(faults) == 1:
        return faults[0]
    first = faults[0]
    together = ConfigError(first.what, where=first.where, fix=first.fix, faults=faults)
    if all(fault.exit_code is first.exit_code for fault in faults):
        together.exit_code = first.exit_code
    return together


def faults_of(error: KfdError) -> tuple[KfdError, ...]:
    """All that an error tells of."""
    return error.faults if isinstance(error, ConfigError) else (error,)
