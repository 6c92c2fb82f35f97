"""``kfdctl cancel`` and ``kfdctl retry``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import click

from kfd.control import Transfer
from kfd.control.transfers import (
    CancelParameters,
    CancelReply,
    Refusal,
    RetryParameters,
    RetryReply,
)
from kfd.ctl.client import Client
from kfd.ctl.completion import complete_route, complete_transfer
from kfd.ctl.render import complain, count, plain, print_json, say, short
from kfd.ctl.settings import Settings, verb
from kfd.ctl.texts import check_text
from kfd.ctl.transfers import IDS_AT_ONCE, check_ids, shown
from kfd.errors import ExitCode, KfdError, UsageError


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_transfer)
@verb
def cancel_command(settings: Settings, ids: tuple[str, ...]) -> ExitCode:
    """Cancel transfers that are not in Kafka yet, and put aside what failed.

    Receivers drop what they have of them. A watched file that was cancelled is sent again when it
    changes, or by kfdctl retry. What is put aside no longer counts as failed.
    """
    check_ids(ids)
    done: list[Transfer] = []
    failures: list[tuple[str, KfdError]] = []
    with settings.connect() as client:
        for one in ids:
            try:
                done.append(client.call(CancelParameters(one), CancelReply).transfer)
            except KfdError as error:
                if len(ids) == 1:
                    raise
                failures.append((one, error))
    if settings.as_json:
        refused = [Refusal(tid, "", str(failure), failure.fix) for tid, failure in failures]
        print_json(transfers=done, refused=refused)
    else:
        for transfer in done:
            say(f"{plain(transfer.path)}  {shown(transfer.state)}  id {short(transfer.tid)}")
        for _, failure in failures:
            complain(failure)
    return failures[0][1].exit_code if failures else ExitCode.DONE


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=complete_transfer)
@click.option("--failed", is_flag=True, help="All that failed.")
@click.option(
    "--route",
    metavar="ROUTE",
    callback=check_text,
    shell_complete=complete_route,
    help="With --failed: only those of it.",
)
@verb
def retry_command(
    settings: Settings, ids: tuple[str, ...], failed: bool, route: str | None
) -> ExitCode:
    """Send again what failed or was cancelled, with new ids.

    A file that has changed since is not what failed: it isn't sent by this.
    """
    check_ids(ids)
    if bool(ids) == failed:
        raise UsageError("either ids of transfers, or --failed", fix="see kfdctl list")
    if route is not None and not failed:
        raise UsageError("--route goes with --failed", fix="give --failed, or ids alone")
    with settings.connect() as client:
        requests = _requests(ids) if ids else [RetryParameters(None, failed, route)]
        transfers, refused = _retry(client, requests, _told(settings))
    if settings.as_json:
        print_json(transfers=transfers, refused=refused)
    elif failed:
        say(f"{count(len(transfers), 'transfer')} queued again.")
    return ExitCode.FAILED if refused else ExitCode.DONE


def _requests(ids: Sequence[str]) -> Iterator[RetryParameters]:
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield RetryParameters(ids[start : start + IDS_AT_ONCE])


def _retry(
    client: Client, requests: Iterable[RetryParameters], tell: Callable[[RetryReply], None]
) -> tuple[Sequence[Transfer], Sequence[Refusal]]:
    """All batches of what is sent again, and of what can't be."""
    transfers: list[Transfer] = []
    refused: list[Refusal] = []
    for request in requests:
        for answer in client.stream(request, RetryReply, None):
            transfers += answer.transfers
            refused += answer.refused
            tell(answer)
    return transfers, refused


def _told(settings: Settings) -> Callable[[RetryReply], None]:
    """Says what became of each, as it is known."""

    def tell(answer: RetryReply) -> None:
        for transfer in answer.transfers:
            again = short(transfer.successor or "")
            say(f"{plain(transfer.path)}  queued again  id {again}")
        for one in answer.refused:
            what = f"{one.path} ({short(one.tid)}) isn't sent again: {one.text}"
            complain(KfdError(what, fix=one.fix))

    return (lambda _: None) if settings.as_json else tell
