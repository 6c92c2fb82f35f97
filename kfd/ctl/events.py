"""``kfdctl events``: a line for each change of a transfer's state."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import click

from kfd.control.events import MAX_EVENTS, Event, EventsParameters, EventsReply
from kfd.ctl.render import JSON_VERSION, note, plain, print_json, say, say_wrapped, short
from kfd.ctl.settings import Settings, duration_option, verb
from kfd.ctl.transfers import shown
from kfd.errors import ExitCode
from kfd.marshal import to_json
from kfd.units import human_size


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option(
    "--limit",
    type=click.IntRange(0, MAX_EVENTS),
    default=20,
    show_default=True,
    help="Begin with at most so many.",
)
@duration_option("--since", help="Begin with what happened since then: 5m, 2h.")
@verb
def events_command(settings: Settings, follow: bool, limit: int, since: float | None) -> ExitCode:
    """Show what happened to transfers of both directions, the newest last.

    With --json and --follow, each line is an event. A narrow terminal may show one in several.
    """
    request = EventsParameters(limit, None if since is None else time.time() - since)
    with settings.connect() as client:
        if not follow:
            _tell_all(settings, client.call(request, EventsReply).events)
            return ExitCode.DONE
        for answer in client.stream(request, EventsReply, None):
            for event in answer.events:
                _tell_one(settings, event)
    return ExitCode.DONE


def _tell_all(settings: Settings, events: Sequence[Event]) -> None:
    if settings.as_json:
        print_json(events=events)
        return
    if not events:
        note("No events.")
    for event in events:
        say_wrapped(line(event))


def _tell_one(settings: Settings, event: Event) -> None:
    if settings.as_json:
        document = {"version": JSON_VERSION, "event": to_json(event)}
        say(json.dumps(document, ensure_ascii=False))
    else:
        say_wrapped(line(event))


def line(event: Event) -> str:
    """An event in a line."""
    then = time.localtime(event.at)
    at = time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%m-%d %H:%M:%S", then)
    what = f"{short(event.tid)} {shown(event.state):<11} {event.route or '-'}"
    reason = f" ({event.reason})" if event.reason else ""
    return plain(f"{at} {what} {event.path} {human_size(event.size)}{reason}")
