"""``kfdctl top``: what moves now, live."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import click

from kfd.control import (
    GetStatusParameters,
    GetStatusReply,
    ListParameters,
    ListReply,
    State,
    Status,
    Transfer,
)
from kfd.ctl.client import Client
from kfd.ctl.render import count, on_terminal, plain, print_json, say, short, table, width
from kfd.ctl.screen import Screen
from kfd.ctl.settings import Settings, verb
from kfd.ctl.status import destination, headline, paused, problems
from kfd.units import human_rate, human_size

REFRESH_SECONDS = 1.0
_MOVING = (State.SENDING, State.RECEIVING)
_MOST = 200  # transfers of each direction
_LEVELS = "▁▂▃▄▅▆▇█"
_BAR = 10  # columns
_QUIT = ("q", "Q")


@dataclass(slots=True)
class History:
    """The rates that were seen, for the sparklines; as many as a wide terminal shows."""

    sent: deque[float] = field(default_factory=lambda: deque(maxlen=240))
    received: deque[float] = field(default_factory=lambda: deque(maxlen=240))

    def add(self, status: Status) -> None:
        self.sent.append(sum(route.bytes_per_second for route in status.uploads))
        self.received.append(sum(route.bytes_per_second for route in status.downloads))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown at a time."""

    status: Status
    transfers: Sequence[Transfer]


@click.command()
@verb
def top_command(settings: Settings) -> None:
    """Show what moves now, until q or Ctrl-C. Not on a terminal: once."""
    with settings.connect() as client:
        if settings.as_json:
            snapshot = _look(client)
            print_json(status=snapshot.status, transfers=snapshot.transfers)
        elif on_terminal(sys.stdout):
            _live(client)
        else:
            history = History()
            snapshot = _look(client)
            history.add(snapshot.status)
            for line in frame(snapshot, history, width()):
                say(line)


def _live(client: Client) -> None:
    history = History()
    with Screen() as screen:
        while True:
            snapshot = _look(client)
            history.add(snapshot.status)
            due = time.monotonic() + REFRESH_SECONDS
            while (left := due - time.monotonic()) > 0:
                screen.draw(list(frame(snapshot, history, screen.size[0])))
                if screen.wait(left).startswith(_QUIT):
                    return


def _look(client: Client) -> Snapshot:
    status = client.call(GetStatusParameters(), GetStatusReply).status
    transfers = [
        one
        for state in _MOVING
        for one in client.call(ListParameters(state=state, limit=_MOST), ListReply).transfers
    ]
    transfers.sort(key=lambda one: one.size - one.done, reverse=True)  # what takes longest first
    return Snapshot(status, transfers)


def frame(snapshot: Snapshot, history: History, columns: int | None) -> Iterator[str]:
    """The lines of the screen, not yet cut to its height."""
    status = snapshot.status
    room = (columns or 80) - 16
    yield headline(status)
    yield f"out {human_rate(history.sent[-1]):>9}  {sparkline(history.sent, room)}"
    yield f"in  {human_rate(history.received[-1]):>9}  {sparkline(history.received, room)}"
    yield _queue(status)
    yield from problems(status)
    yield from paused(status)
    yield ""
    routes = list(_routes(status))
    if routes:
        yield from table("ROUTE >RATE >WAITING >NOW >LAG TOPIC", routes, columns)
    else:
        yield "No routes."
    yield ""
    if snapshot.transfers:
        rows = [_row(one) for one in snapshot.transfers]
        yield from table("ID STATE PROGRESS >SIZE PATH", rows, columns)
    else:
        yield "Nothing moves."


def _queue(status: Status) -> str:
    held = f"{human_size(status.queue_bytes)} of {human_size(status.queue_bytes_max)}"
    queue = f"queue {status.queue_records}/{status.queue_records_max} records, {held}"
    waiting = sum(route.queued for route in status.uploads)
    return f"{queue}; {count(waiting, 'file')} waiting"


def _routes(status: Status) -> Iterator[list[str]]:
    for sent in status.uploads:
        name = sent.route if sent.directory is not None else "-"
        yield [
            *(name, human_rate(sent.bytes_per_second), f"{sent.queued:,}", f"{sent.sending:,}"),
            *("-", destination(sent)),
        ]
    for got in status.downloads:
        lag = "?" if got.lag is None else f"{got.lag:,}"
        yield [
            *(got.route, human_rate(got.bytes_per_second), "-", f"{got.receiving:,}", lag),
            f"<- {got.topic}",
        ]


def _row(transfer: Transfer) -> list[str]:
    return [
        short(transfer.tid),
        transfer.state.value,
        _progress(transfer),
        human_size(transfer.size),
        plain(transfer.path),
    ]


def _progress(transfer: Transfer) -> str:
    """``█████░░░░░  51%``."""
    share = min(1.0, transfer.done / transfer.size) if transfer.size else 0.0
    full = int(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {int(100 * share):3}%"


def sparkline(values: Iterable[float], columns: int) -> str:
    """The newest values as bars, one a column, the highest of them full."""
    shown = list(values)[-max(0, columns) :] if columns > 0 else []
    highest = max(shown, default=0.0)
    if highest <= 0:
        return "▁" * len(shown)
    return "".join(_LEVELS[min(7, int(8 * value / highest))] for value in shown)
