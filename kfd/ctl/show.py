"""``kfdctl show``: all that is known of a transfer."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator

import click

from kfd.control import Transfer
from kfd.control.transfers import Details, ShowParameters, ShowReply
from kfd.ctl.completion import complete_transfer
from kfd.ctl.render import plain, print_json, say, short, width, wrapped
from kfd.ctl.settings import Settings, verb
from kfd.ctl.transfers import check_ids, shown
from kfd.units import human_size

_LABEL = 11  # columns


@click.command()
@click.argument("tid", metavar="ID", shell_complete=complete_transfer)
@verb
def show_command(settings: Settings, tid: str) -> None:
    """Show all that is known of a transfer, by its id or the last 8 digits of it."""
    check_ids([tid])
    with settings.connect() as client:
        answer = client.call(ShowParameters(tid), ShowReply)
    if settings.as_json:
        print_json(transfer=answer.transfer, details=answer.details)
        return
    for label, text in _lines(answer.transfer, answer.details):
        for line in wrapped(f"{label:<{_LABEL}} {plain(text)}", width(), " " * (_LABEL + 1)):
            say(line)


def _lines(transfer: Transfer, details: Details) -> Iterator[tuple[str, str]]:
    """Label and text of what is known."""
    facts = [*_file(transfer, details), *_times(transfer, details), *_place(transfer, details)]
    for label, text in (*facts, *_fate(transfer, details)):
        if text:
            yield label, text


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
