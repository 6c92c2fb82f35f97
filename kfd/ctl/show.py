"""``kfdctl show``: all that is known of a transfer."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from typing import Any

import click

from kfd.control import ListReply, Transfer
from kfd.control.transfers import Details, ShowParameters, ShowReply
from kfd.ctl.client import Client
from kfd.ctl.completion import complete_transfer
from kfd.ctl.render import print_json, say, say_facts, short
from kfd.ctl.searching import search_options, wanted
from kfd.ctl.settings import Settings, verb
from kfd.ctl.transfers import check_ids, shown
from kfd.errors import NoSuchTransferError, UsageError
from kfd.units import human_size


@click.command()
@click.argument("tid", required=False, metavar="[ID]", shell_complete=complete_transfer)
@search_options
@verb
def show_command(settings: Settings, tid: str | None, **search: Any) -> None:
    """Show all that is known of a transfer: by its id or the last 8 digits of it, or of the newest
    that the options find.

    Of a file that this host has both sent and received it shows both; --route goes with an id, too.
    """
    if (tid is None) != any(value for name, value in search.items() if name != "route" or not tid):
        raise UsageError("either the id of a transfer, or options to find it", fix="--name '*.trc'")
    if tid is not None:
        check_ids([tid])
    with settings.connect() as client:
        asked = ShowParameters(tid, search["route"]) if tid else _newest(client, **search)
        answer = client.call(asked, ShowReply)
    if settings.as_json:
        print_json(transfer=answer.transfer, details=answer.details, others=answer.others)
        return
    say_facts(_facts(answer.transfer, answer.details))
    for one in answer.others:
        say("")
        say_facts(_facts(one.transfer, one.details))


def _newest(client: Client, **search: Any) -> ShowParameters:
    """What to ask for; only one half of it where it was looked for by what only that has."""
    found = client.call(wanted(1, **search), ListReply).transfers
    if not found:
        raise NoSuchTransferError("there is no such transfer", fix="kfdctl list")
    half = search["route"] or (found[0].route if search["state"] else None)
    return ShowParameters(found[0].tid, half or None)


def _facts(transfer: Transfer, details: Details) -> Iterator[tuple[str, str]]:
    """Label and text of what is known."""
    for facts in (_file, _times, _place, _fate):
        yield from facts(transfer, details)


def _file(transfer: Transfer, details: Details) -> Iterator[tuple[str, str]]:
    yield "path", transfer.path
    yield "id", transfer.tid
    yield "state", _state(transfer)
    yield "size", f"{human_size(transfer.size)} ({transfer.size:,} bytes)"
    yield "modified", _moment(details.mtime)
    yield "mode", stat.filemode(details.mode)[1:] if details.mode is not None else ""
    yield "digest", details.digest or ""
    yield "source", details.source or ""
    yield "name", details.name or ""
    yield "meta", ", ".join(f"{key}={value}" for key, value in details.meta.items())


def _state(transfer: Transfer) -> str:
    moving = 0 < transfer.done < transfer.size and not transfer.state.ended
    so_far = f", {human_size(transfer.done)} of it" if moving else ""
    return f"{shown(transfer.state)}{so_far}"


def _times(transfer: Transfer, details: Details) -> Iterator[tuple[str, str]]:
    yield "queued", _moment(transfer.queued_at) + (f" by {details.user}" if details.user else "")
    yield "begun", _moment(details.begun_at)
    yield "in Kafka", _moment(details.in_kafka_at)
    ended = transfer.ended_at if transfer.state.ended else None
    yield shown(transfer.state), _moment(ended)
    yield "again at", _moment(details.resend_at)


def _place(transfer: Transfer, details: Details) -> Iterator[tuple[str, str]]:
    way = f"{transfer.route or 'no route'}, topic {transfer.topic}, origin {transfer.origin}"
    yield "route", way
    if details.partition is not None:
        offset = f", from offset {details.first_offset}" if details.first_offset is not None else ""
        yield "partition", f"{details.partition}{offset}"
    yield "chunks of", human_size(details.chunk_size) if details.chunk_size else ""
    yield "generation", str(details.generation)


def _fate(transfer: Transfer, details: Details) -> Iterator[tuple[str, str]]:
    yield "receivers", ", ".join(details.receivers)
    yield "refused", f"{details.tries} times" if details.tries else ""
    yield "instead of", short(details.predecessor) if details.predecessor else ""
    yield "followed by", short(transfer.successor) if transfer.successor else ""
    yield "reason", transfer.reason
    yield "fix", transfer.fix


def _moment(at: float | None) -> str:
    """A time to the millisecond; empty where there is none."""
    if at is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03}"
