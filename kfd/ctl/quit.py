"""``kfdctl quit``: finish what is queued and in flight, stop the daemon, wait until it is gone."""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress

import click

from kfd.control import QuitParameters, QuitReply
from kfd.ctl.client import Client
from kfd.ctl.render import count, elapsed, note, on_terminal, plain, print_json, say
from kfd.ctl.settings import Settings, duration_option, verb
from kfd.errors import ExitCode, KfdError, NotRunningError, TimedOutError
from kfd.unit import log_of, of_service, of_socket, start
from kfd.units import human_size

_GONE_TIMEOUT = 60.0  # seconds for the daemon to end after it said that it will


@click.command()
@duration_option(
    "--timeout", help="How long to finish; what is left then goes on at the next start."
)
@click.option("--now", is_flag=True, help="Leave what is queued to the next start.")
@verb
def quit_command(settings: Settings, timeout: float | None, now: bool) -> ExitCode:
    """Finish what is queued and in flight, then stop kfd. No new files are taken meanwhile.

    Ctrl-C ends the waiting, not the stopping.
    """
    started = time.monotonic()
    with settings.connect() as client:
        process = _process(client)
        report = _Report(quiet=settings.as_json)
        try:
            left = _follow(client, QuitParameters(now or None, timeout), report)
            _await_end(process, client)
            _check_finished(left, client)
        except KeyboardInterrupt:
            report.end("")
            note("Interrupted; kfd goes on stopping.  See: kfdctl status")
            return ExitCode.INTERRUPTED
    seconds = time.monotonic() - started
    if settings.as_json:
        print_json(stopped=True, seconds=round(seconds, 3), transfers_left=left.transfers)
    else:
        unit = of_service(client.path)
        again = f" Start: {start(unit)}" if unit is not None else ""
        say(f"kfd stopped after {elapsed(seconds)}.{again}")
    return ExitCode.DONE


def _follow(client: Client, parameters: QuitParameters, report: _Report) -> QuitReply:
    """Until the daemon stops; returns what it leaves to its next start, as far as it has said."""
    left = QuitReply(0, 0, stopping=False)
    with suppress(NotRunningError):  # it ended before it said so, as by a signal
        for left in client.stream(parameters, QuitReply, None):
            if not left.stopping:
                report.progress(left)
    report.end(f"{_amount(left)} left to the next start" if left.transfers else "done")
    return left


def _check_finished(left: QuitReply, client: Client) -> None:
    """The last thing that a daemon says which stops in order is that it does."""
    if not left.stopping:
        raise KfdError("kfd ended before it had finished", fix=log_of(of_socket(client.path)))


class _Report:
    """The line that tells how far the draining is."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._line = ""
        self._told: set[tuple[str, str, str]] = set()
        self._again = on_terminal(sys.stdout)

    def progress(self, left: QuitReply) -> None:
        if self._quiet:
            return
        if self._line and not self._again:
            self._tell_held(left)
            return
        again = "\r\x1b[K" if self._line else ""
        self._line = f"No new files taken. Finishing {_amount(left)} ... "
        click.echo(again + self._line, nl=False)
        self._tell_held(left)

    def _tell_held(self, left: QuitReply) -> None:
        """What can't move, each reason once: the rest of the waiting may be in vain."""
        news = [one for one in left.held if (one.route, one.topic, one.reason) not in self._told]
        for one in news:
            self._told.add((one.route, one.topic, one.reason))
            which = one.route or f"-> {one.topic}"
            amount = count(one.transfers, "transfer")
            note(f"\n! {which}: {amount} can't move: {plain(one.reason)}")
            note(f"  fix: {plain(one.fix)}; or leave it to the next start: kfdctl quit --now")

    def end(self, result: str) -> None:
        if self._line:
            say(result)
        elif result != "done" and result and not self._quiet:
            say(f"No new files taken. {result}")


def _amount(left: QuitReply) -> str:
    return f"{count(left.transfers, 'transfer')} ({human_size(left.bytes)})"


def _process(client: Client) -> int | None:
    """A descriptor of the daemon's process, readable once that has ended; None if unseen."""
    try:
        return os.pidfd_open(client.daemon_pid)
    except OSError:  # in another pid namespace, or gone already
        return None


def _await_end(process: int | None, client: Client) -> None:
    if process is None:
        return
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if not poll.poll(_GONE_TIMEOUT * 1000):
        unit = of_socket(client.path)
        raise TimedOutError(
            f"kfd is still stopping after {_GONE_TIMEOUT:g} s",
            fix=f"{log_of(unit)}; systemctl kill {unit} (process {client.daemon_pid})",
        )
