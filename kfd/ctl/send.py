"""``kfdctl send``: pass open files to the daemon, and wait until they are in Kafka."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence

import click

from kfd.control import SendParameters, Sent, State, Transfer, Until
from kfd.ctl.client import Client
from kfd.ctl.completion import complete_route
from kfd.ctl.handover import Order, batches, hand_over
from kfd.ctl.meta import parse_meta
from kfd.ctl.picked import Picked, pick
from kfd.ctl.render import ProgressLine, count, elapsed, note, print_json, say, short
from kfd.ctl.settings import Settings, duration_option, verb
from kfd.ctl.transfers import judge, parse_until, until_option, wait
from kfd.errors import ExitCode, UsageError
from kfd.units import human_duration, human_rate, human_size

_IN_KAFKA = (State.IN_KAFKA, State.DELIVERED)
_RATE_WINDOW = 5.0  # seconds of the past that the shown rate is of


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...|-")
@click.option(
    "--route",
    metavar="ROUTE",
    shell_complete=complete_route,
    help="Send by it; else the one that fits the file.",
)
@click.option("--topic", metavar="TOPIC", help="Send to it.")
@click.option("--name", metavar="PATH", help="The file's path at the receivers.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Goes along; repeatable.")
@until_option
@click.option("--recursive", is_flag=True, help="Send what is in directories.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent, and where to.")
@click.option("--again", is_flag=True, help="Send what was sent already once more.")
@duration_option("--timeout", help="How long to wait.")
@verb
def send_command(
    settings: Settings,
    *,
    paths: tuple[str, ...],
    route: str | None,
    topic: str | None,
    name: str | None,
    meta: tuple[str, ...],
    until: str,
    recursive: bool,
    dry_run: bool,
    again: bool,
    timeout: float | None,
) -> ExitCode:
    """Send files, and wait until they are in Kafka.

    Ctrl-C ends the waiting, not the sending. The path at the receivers is the one in the route's
    directory, elsewhere the file's name. "-" is standard input, and needs --name.
    """
    if "-" in paths and (len(paths) > 1 or name is None):
        raise UsageError("- is standard input: one file, with a --name", fix="- --name NAME")
    order = Order(
        until=parse_until(until),
        name=os.fsencode(name) if name is not None else None,
        request=SendParameters([], route, topic, parse_meta(meta), again or None, dry_run or None),
        timeout=timeout,
    )
    files = pick(paths, recursive=recursive)
    if name is not None and len(files) != 1:
        raise UsageError("--name is for one file", fix=f"send these {len(files)} without it")
    with settings.connect() as client:
        return _send(settings, client, order, files)


def _send(settings: Settings, client: Client, order: Order, files: Sequence[Picked]) -> ExitCode:
    sent: list[Sent] = []
    transfers: list[Transfer] = []
    started = time.monotonic()
    try:
        for batch in batches(order, files):
            answered = hand_over(client, order, batch)
            sent += answered
            _tell(settings, order, answered)
        if not order.request.dry_run and order.until is not Until.QUEUED:
            transfers = _wait(settings, client, order, sent)
    except KeyboardInterrupt:
        _detach(sent, len(files))
        return ExitCode.INTERRUPTED
    if settings.as_json:
        print_json(files=sent, transfers=transfers)
    code = judge(transfers)
    if not settings.as_json and code is ExitCode.DONE:
        _conclude(order, sent, transfers, time.monotonic() - started)
    refused = any(one.refused for one in sent)
    return ExitCode.FAILED if refused and code is ExitCode.DONE else code


def _tell(settings: Settings, order: Order, answered: Sequence[Sent]) -> None:
    """A line for each file: on stdout what is sent, on stderr what is refused."""
    for one in answered:
        if one.refused:
            note(f"kfdctl: {one.path}: {one.refused}")
            if one.fix:
                note(f"  fix: {one.fix}")
        elif not settings.as_json:
            say(_line(order, one))


def _line(order: Order, one: Sent) -> str:
    way = f"{one.route or 'no route'} -> {one.topic}"
    line = f"{one.path}  {human_size(one.size)}  {way}"
    if one.already:
        return f"{line}  was sent already" + (f", id {short(one.tid)}" if one.tid else "")
    if order.request.dry_run:
        return f"{line}  would be sent"
    return f"{line}  id {short(one.tid or '')}"


def _wait(settings: Settings, client: Client, order: Order, sent: Sequence[Sent]) -> list[Transfer]:
    waited = {one.tid: one.size for one in sent if one.tid is not None and not one.refused}
    if not waited:
        return []
    progress = Progress(sum(waited.values()), len(waited))
    line = ProgressLine()
    try:
        return wait(
            client,
            list(waited),
            order.until,
            order.timeout,
            lambda transfers: None if settings.as_json else line.show(progress.text(transfers)),
        )
    finally:
        line.clear()


class Progress:
    """How far transfers are, how fast, and how long they still take."""

    def __init__(self, size: int, files: int) -> None:
        self._size = size
        self._files = files
        self._seen: deque[tuple[float, int]] = deque()

    def text(self, transfers: Sequence[Transfer]) -> str:
        """`` 51%  118 MB/s  2s left   (Ctrl-C detaches)``."""
        if len(transfers) == self._files and all(one.state in _IN_KAFKA for one in transfers):
            return "In Kafka; waiting for a receiver   (Ctrl-C detaches)"
        done = sum(min(transfer.done, transfer.size) for transfer in transfers)
        rate = self._rate(done)
        left = f"  {human_duration(round((self._size - done) / rate))} left" if rate >= 1 else ""
        share = 100 * done // self._size if self._size else 0
        return f"{share:3}%  {human_rate(rate)}{left}   (Ctrl-C detaches)"

    def _rate(self, done: int) -> float:
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        return max(0, done - before) / (now - since) if now > since else 0.0


def _conclude(
    order: Order, sent: Sequence[Sent], transfers: Sequence[Transfer], seconds: float
) -> None:
    fresh = [one for one in sent if one.tid is not None and not one.already and not one.refused]
    if order.request.dry_run or not fresh:
        return
    amount = f"{count(len(fresh), 'file')}, " if len(fresh) > 1 else ""
    total = human_size(sum(one.size for one in fresh))
    if order.until is Until.QUEUED:
        say(f"Queued{': ' + amount + total if amount else ''}.  See: kfdctl list")
    elif transfers:
        what = f" ({amount}{total})" if amount else ""
        if all(one.state is State.DELIVERED for one in transfers):
            say(f"Delivered{what} after {elapsed(seconds)}.")
        else:
            say(
                f"In Kafka{what} after {elapsed(seconds)};"
                f" not yet confirmed by a receiver.  See: {_how_to_follow(transfers)}"
            )


def _how_to_follow(transfers: Sequence[Transfer]) -> str:
    if len(transfers) == 1:
        return f"kfdctl wait --until delivered {short(transfers[0].tid)}"
    return "kfdctl list"


def _detach(sent: Sequence[Sent], count_of_files: int) -> None:
    tids = [short(one.tid) for one in sent if one.tid is not None]
    if len(sent) < count_of_files:
        note(f"Interrupted: {len(sent)} of {count_of_files} files were handed over.")
    if len(tids) == 1:
        note(f"Detached; the transfer goes on.  See: kfdctl wait {tids[0]}")
    elif tids:
        note("Detached; the transfers go on.  See: kfdctl list")
