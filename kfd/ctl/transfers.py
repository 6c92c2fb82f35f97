"""``kfdctl list`` and ``kfdctl wait``, and the waiting that ``kfdctl send`` does too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from kfd.control import (
    GetStatusParameters,
    GetStatusReply,
    ListReply,
    State,
    Transfer,
    Until,
    WaitParameters,
    WaitReply,
)
from kfd.ctl.client import Client, start_and_look
from kfd.ctl.completion import complete_transfer
from kfd.ctl.progress import progress_of, standing_still
from kfd.ctl.render import clock, complain, note, plain, print_json, say, short, table
from kfd.ctl.searching import limit_option, search_options, wanted
from kfd.ctl.settings import Settings, duration_option, verb
from kfd.errors import ExitCode, KfdError, NotRunningError, TimedOutError, UsageError
from kfd.units import human_size

_HEADER = "ID STATE ROUTE >SIZE AT PATH"
_UNTIL = Until.IN_KAFKA  # what is waited for unless something else is said
IDS_AT_ONCE = 1000  # in one request: it has at most 64 KiB
_TID = re.compile(r"[0-9a-f]{8}|[0-9a-f]{32}")
_BAD = frozenset({State.FAILED, State.CANCELLED, State.QUARANTINED, State.EXPIRED})


def shown(state: State | Until) -> str:
    """A state as people write it."""
    return state.value.replace("_", "-")


def until_option(function: Callable[..., object]) -> Callable[..., object]:
    return click.option(
        "--until",
        type=click.Choice([shown(until) for until in Until]),
        default=shown(_UNTIL),
        show_default=True,
        help="What to wait for.",
    )(function)


def parse_until(text: str) -> Until:
    """What ``--until`` says."""
    return Until(text.replace("-", "_"))


@click.command()
@search_options
@limit_option
@verb
def list_command(settings: Settings, limit: int, **search: Any) -> ExitCode:
    """List transfers of both directions, the newest first.

    A TIME is one ago (2h, 7d), or a date with or without a time of day. A GLOB without a slash is
    for the last component of the path.
    """
    request = wanted(limit, **search)
    with settings.connect() as client:
        answer = client.call(request, ListReply)
        unknown = not answer.transfers and _is_unknown(client, request.route)
    transfers = answer.transfers
    if settings.as_json:
        print_json(transfers=transfers, complete=answer.complete)
    elif unknown:
        note(plain(f"No transfers, and there is no route {request.route}.  See: kfdctl status"))
    elif not transfers:
        note("No transfers.")
    else:
        for line in table(_HEADER, [_row(transfer) for transfer in transfers]):
            say(line)
    if not answer.complete and not settings.as_json:
        note("Only the newest transfers were looked at.")
    return ExitCode.DONE


def _is_unknown(client: Client, route: str | None) -> bool:
    """Whether there is no such route; one that is gone may have left transfers."""
    if route is None:
        return False
    status = client.call(GetStatusParameters(), GetStatusReply).status
    known = [one.route for one in status.uploads] + [one.route for one in status.downloads]
    return route not in known


def _row(transfer: Transfer) -> list[str]:
    at = transfer.ended_at or transfer.queued_at
    return [
        short(transfer.tid),
        shown(transfer.state),
        transfer.route or "-",
        human_size(transfer.size),
        clock(at) if at is not None else "-",
        plain(f"{transfer.path} ({transfer.reason})" if transfer.reason else transfer.path),
    ]


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_transfer)
@until_option
@duration_option("--timeout", help="How long to wait.")
@verb
def wait_command(
    settings: Settings, ids: tuple[str, ...], until: str, timeout: float | None
) -> ExitCode:
    """Wait for transfers, by their ids or the last 8 digits of them."""
    target = parse_until(until)
    check_ids(ids)
    with settings.connect() as client, progress_of(len(ids), quiet=settings.as_json) as show:
        transfers = wait(client, ids, target, timeout, show)
    if settings.as_json:
        print_json(transfers=transfers)
    else:
        for transfer in transfers:
            say(f"{plain(transfer.path)}  {shown(transfer.state)}  id {short(transfer.tid)}")
    return judge(transfers)


def check_ids(ids: Sequence[str]) -> None:
    """Refuse what can't be the id of a transfer."""
    for one in ids:
        if _TID.fullmatch(one) is None:
            raise UsageError(
                f"{plain(one)} is no id of a transfer",
                fix="give 8 or 32 hex digits; see kfdctl list",
            )


def wait(
    client: Client,
    tids: Sequence[str],
    until: Until,
    timeout: float | None,
    on_progress: Callable[[Sequence[Transfer]], None],
) -> list[Transfer]:
    """Follow transfers until each has reached ``until`` or ended; those that took over, too.

    ``on_progress`` gets what is known of those waited for together. Raises
    :class:`TimedOutError`, with the work going on.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    done: list[Transfer] = []
    for start in range(0, len(tids), IDS_AT_ONCE):
        waiting = list(tids[start : start + IDS_AT_ONCE])
        while waiting:
            followed = _follow(client, WaitParameters(waiting, until), deadline)
            for reply in followed:
                on_progress([*done, *reply])
            waiting = [one.successor for one in reply if one.successor is not None]
            done += [one for one in reply if one.successor is None]
    return done


def _follow(
    client: Client, request: WaitParameters, deadline: float | None
) -> Iterator[Sequence[Transfer]]:
    """The replies of one ``Wait``: at least one."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    last: Sequence[Transfer] = ()
    try:
        for reply in client.stream(request, WaitReply, left):
            last = reply.transfers
            yield last
    except TimedOutError:
        if not last:  # it has said nothing
            raise
        raise _timed_out(request, last) from None
    except NotRunningError:
        raise NotRunningError(
            f"kfd stopped meanwhile; {_goes_on(request.tids)} when it is started again",
            fix=start_and_look(client.path),
        ) from None


def _timed_out(request: WaitParameters, last: Sequence[Transfer]) -> TimedOutError:
    again = how_to_wait(request.tids, request.until)
    text = f"timed out; {_goes_on(request.tids)}"
    held = standing_still(last)
    if held is None:
        return TimedOutError(text, fix=again)
    return TimedOutError(
        f"{text} once it can: {held.reason}",
        fix=f"{held.fix}; {again}" if held.fix else again,
    )


def _goes_on(tids: Sequence[str]) -> str:
    return "the transfer goes on" if len(tids) == 1 else "the transfers go on"


def how_to_wait(tids: Sequence[str], until: Until) -> str:
    """The command that waits for these, if they are few enough to be named."""
    named = " ".join(short(tid) for tid in tids) if len(tids) <= 4 else "ID...; see kfdctl list"
    option = f"--until {shown(until)} " if until is not _UNTIL else ""
    return f"kfdctl wait {option}{named}"


def judge(transfers: Sequence[Transfer]) -> ExitCode:
    """Say which transfers failed and why; the exit code of all."""
    failed = [transfer for transfer in transfers if transfer.state in _BAD]
    for transfer in failed:
        where = f"{transfer.path} {shown(transfer.state)}"
        reason = transfer.reason or "no reason is known"
        complain(KfdError(reason, where=where, fix=transfer.fix))
    return ExitCode.TRANSFER_FAILED if failed else ExitCode.DONE
