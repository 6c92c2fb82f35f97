"""Entry point of ``kfdctl``: runs the command line and turns every failure into one message."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback

import click

from kfd.ctl.cli import kfdctl
from kfd.ctl.render import complain, print_json
from kfd.errors import ExitCode, KfdError, UsageError, faults_of

_OF_FULL_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main() -> None:
    """Run ``kfdctl`` and exit. No traceback reaches the user."""
    _open_missing()
    sys.exit(int(_run(sys.argv[1:])))


def _open_missing() -> None:
    """A stream that the caller has closed is /dev/null, written to: then nobody reads from it."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process


def _run(arguments: list[str]) -> ExitCode:
    """click itself ends quietly, with 1, where nobody reads stdout any more."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every locale can show every name
    try:
        code = kfdctl.main(arguments, prog_name="kfdctl", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a user gets a message, not a traceback
        known = _as_kfd_error(error)
        if "--json" in arguments:
            _complain_in_json(known)
        return _complain(known)
    return ExitCode(code or ExitCode.DONE)


def _complain(error: KfdError) -> ExitCode:
    with contextlib.suppress(OSError):
        for fault in faults_of(error):
            complain(fault)
    return error.exit_code


def _complain_in_json(error: KfdError) -> None:
    """On stdout, for programs; people read stderr."""
    faults = faults_of(error)
    shown = [{"text": str(fault), "fix": fault.fix} for fault in faults]
    with contextlib.suppress(OSError):
        print_json(errors=shown, exit_code=int(error.exit_code))


def _as_kfd_error(error: Exception) -> KfdError:
    if isinstance(error, KfdError):
        return error
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "kfdctl"
        what = error.format_message().rstrip(".").replace("\n\t", " ")  # a list of choices
        return UsageError(what, fix=f"see {command} --help")
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message(), fix="see kfdctl --help")
    if isinstance(error, OSError) and (_gave_up_stdout() or _of_stdout(error)):
        return KfdError(
            f"stdout can't be written: {error.strerror}", fix="free space there, or redirect it"
        )
    return _bug(error)


def _gave_up_stdout() -> bool:
    """Whether stdout still holds what could not be written; that is lost, or Python would try it
    once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        return True
    return False


def _of_stdout(error: OSError) -> bool:
    """Whether stdout may have refused it at once, so that it holds nothing; a file has its name."""
    return error.filename is None and error.errno in _OF_FULL_DISKS


def _bug(error: Exception) -> KfdError:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return KfdError(
        f"a bug in kfdctl: {type(error).__name__}: {error}",
        fix=f"report it, with the command and this place: {place.filename}:{place.lineno}",
    )


if __name__ == "__main__":
    main()
