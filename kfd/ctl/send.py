"""``kfdctl send``: pass open files to the daemon, and wait until they are in Kafka."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from kfd.control import SendParameters, Sent, State, Transfer, Until
from kfd.ctl.client import Client
from kfd.ctl.completion import complete_route
from kfd.ctl.handover import Order, batches, hand_over
from kfd.ctl.meta import meta_option, parse_meta
from kfd.ctl.picked import Picked, pick
from kfd.ctl.progress import progress_of
from kfd.ctl.render import (
    complain,
    count,
    elapsed,
    note,
    plain,
    print_json,
    say,
    say_and_see,
    say_wrapped,
    short,
)
from kfd.ctl.settings import Settings, duration_option, verb
from kfd.ctl.texts import check_text, to_name
from kfd.ctl.transfers import how_to_wait, judge, parse_until, until_option, wait
from kfd.errors import ExitCode, KfdError, UsageError
from kfd.units import human_size


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...|-")
@click.option(
    "--route",
    metavar="ROUTE",
    callback=check_text,
    shell_complete=complete_route,
    help="Send by it; else the one that fits the file.",
)
@click.option("--topic", metavar="TOPIC", callback=check_text, help="Send to it.")
@click.option("--name", metavar="PATH", callback=to_name, help="The file's path at the receivers.")
@meta_option("Goes along")
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
    name: bytes | None,
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
        name=name,
        request=SendParameters([], route, topic, parse_meta(meta), again or None, dry_run or None),
        timeout=timeout,
    )
    files = pick(paths, recursive=recursive)
    if not files:
        return _nothing(settings, paths)
    if name is not None and len(files) != 1:
        raise UsageError("--name is for one file", fix=f"send these {len(files)} without it")
    with settings.connect() as client:
        return _send(settings, client, order, files)


def _nothing(settings: Settings, paths: Sequence[str]) -> ExitCode:
    if settings.as_json:
        print_json(files=[], transfers=[])
    else:
        note(plain(f"Nothing to send: there are no files in {', '.join(paths)}."))
    return ExitCode.DONE


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
        _detach(order, sent, len(files))
        return ExitCode.INTERRUPTED
    if settings.as_json:
        print_json(files=sent, transfers=transfers)
    code = judge(transfers)
    if not settings.as_json and code is ExitCode.DONE:
        _conclude(order, sent, transfers, time.monotonic() - started)
    return _of_refusals(sent) if code is ExitCode.DONE else code


def _of_refusals(sent: Sequence[Sent]) -> ExitCode:
    """What to exit with for those that were refused: what they agree on."""
    codes = {one.exit_code for one in sent if one.refused}
    if not codes:
        return ExitCode.DONE
    (code,) = codes if len(codes) == 1 else (ExitCode.FAILED,)
    return ExitCode(code) if code in set(ExitCode) and code else ExitCode.FAILED


def _tell(settings: Settings, order: Order, answered: Sequence[Sent]) -> None:
    """A line for each file: on stdout what is sent, on stderr what is refused."""
    for one in answered:
        if one.refused:
            complain(KfdError(f"{one.path}: {one.refused}", fix=one.fix))
        elif not settings.as_json:
            say_wrapped(plain(_line(order, one)))


def _line(order: Order, one: Sent) -> str:
    way = f"{one.route or 'no route'} -> {one.topic}"
    line = f"{one.path}  {human_size(one.size)}  {way}"
    if one.already:
        return f"{line}  {_before(one)}" + (f", id {short(one.tid)}" if one.tid else "")
    if order.request.dry_run:
        return f"{line}  would be sent"
    return f"{line}  id {short(one.tid or '')}"


def _before(one: Sent) -> str:
    """What became of it when it was taken before."""
    match one.state:
        case State.QUEUED:
            return "is queued already"
        case State.SENDING:
            return "is on its way already"
        case State.FAILED:
            return "has failed before"
        case State.CANCELLED:
            return "was cancelled before"
        case _:
            return "was sent already"


def _wait(settings: Settings, client: Client, order: Order, sent: Sequence[Sent]) -> list[Transfer]:
    waited = {one.tid: one.size for one in sent if one.tid is not None and not one.refused}
    if not waited:
        return []
    size = sum(waited.values())
    with progress_of(len(waited), size, quiet=settings.as_json) as show:
        return wait(client, list(waited), order.until, order.timeout, show)


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
        elif not any(one.receipts for one in transfers):
            in_kafka = f"In Kafka{what} after {elapsed(seconds)}"
            say_wrapped(f"{in_kafka}; openmsistream's format has no receipts.")
        else:
            say_and_see(
                f"In Kafka{what} after {elapsed(seconds)}; not yet confirmed by a receiver.",
                _how_to_follow(transfers),
            )


def _how_to_follow(transfers: Sequence[Transfer]) -> str:
    if len(transfers) == 1:
        return how_to_wait([transfers[0].tid], Until.DELIVERED)
    return "kfdctl list"


def _detach(order: Order, sent: Sequence[Sent], count_of_files: int) -> None:
    tids = [one.tid for one in sent if one.tid is not None]
    if len(sent) < count_of_files:
        note(f"Interrupted: {len(sent)} of {count_of_files} files were handed over.")
    if len(tids) == 1:
        note(f"Detached; the transfer goes on.  See: {how_to_wait(tids, order.until)}")
    elif tids:
        note("Detached; the transfers go on.  See: kfdctl list")
