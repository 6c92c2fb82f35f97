"""``kfdctl pause``, ``resume`` and ``rescan``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from kfd.control.routes import (
    PauseParameters,
    PauseReply,
    RescanParameters,
    RescanReply,
    ResumeParameters,
    ResumeReply,
)
from kfd.ctl.completion import complete_route, complete_upload
from kfd.ctl.render import ProgressLine, count, note, print_json, say
from kfd.ctl.settings import Settings, duration_option, verb
from kfd.ctl.texts import check_text
from kfd.errors import ExitCode, TimedOutError

_route, _upload = (
    click.argument(
        "route", required=False, metavar="[ROUTE]", callback=check_text, shell_complete=complete
    )
    for complete in (complete_route, complete_upload)
)


@click.command()
@_route
@click.option("--wait", is_flag=True, help="Wait until nothing of it is on its way.")
@duration_option("--timeout", help="How long to wait.")
@verb
def pause_command(
    settings: Settings, route: str | None, wait: bool, timeout: float | None
) -> ExitCode:
    """Pause a route, or all of them: nothing more is sent or received.

    Files are queued all the same. It stays paused, also over restarts, until kfdctl resume.
    """
    request = PauseParameters(route)
    with settings.connect() as client:
        if not wait:
            answer = client.call(request, PauseReply)
        else:
            line = ProgressLine()
            paused = False
            try:
                for answer in client.stream(request, PauseReply, timeout):
                    paused = True
                    line.show(f"{count(answer.in_flight, 'file')} on the way")
            except TimedOutError:
                if not paused:  # it has said nothing
                    raise
                raise TimedOutError(
                    "paused; what was begun is still on its way", fix="kfdctl status shows it"
                ) from None
            finally:
                line.clear()
    if settings.as_json:
        print_json(routes=answer.routes, in_flight=answer.in_flight)
    else:
        _say_each("paused", answer.routes)
        if not answer.routes:
            note("There are no routes; what is sent without one is paused.")
    return ExitCode.DONE


@click.command()
@_route
@verb
def resume_command(settings: Settings, route: str | None) -> ExitCode:
    """Let a route go on that was paused, or all of them."""
    with settings.connect() as client:
        routes = client.call(ResumeParameters(route), ResumeReply).routes
    return _told(settings, routes, lambda: _say_each("goes on", routes), "No route was paused.")


@click.command()
@_upload
@verb
def rescan_command(settings: Settings, route: str | None) -> ExitCode:
    """Look at all files of an upload route now, or of all of them."""
    with settings.connect() as client:
        routes = client.call(RescanParameters(route), RescanReply).routes
    return _told(settings, routes, lambda: _say_each("is scanned", routes), "No upload routes.")


def _told(
    settings: Settings, routes: Sequence[str], tell: Callable[[], None], nothing: str
) -> ExitCode:
    if settings.as_json:
        print_json(routes=routes)
    elif routes:
        tell()
    else:
        note(nothing)
    return ExitCode.DONE


def _say_each(what: str, routes: Sequence[str]) -> None:
    for name in routes:
        say(f"{name}: {what}")
