"""``kfdctl status``: what the daemon is doing, route by route, and what is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import click

from kfd.control import (
    DaemonState,
    DownloadRoute,
    GetStatusParameters,
    GetStatusReply,
    Status,
    UploadRoute,
)
from kfd.ctl.render import (
    clock,
    coloured,
    count,
    counted,
    plain,
    print_json,
    say,
    table,
    width,
    wrapped,
)
from kfd.ctl.settings import Settings, verb
from kfd.errors import ExitCode
from kfd.units import human_duration, human_rate, human_size

_UPLOADS = "ROUTE >QUEUED >SENDING >IN-KAFKA >DELIVERED >FAILED LAST"
_DOWNLOADS = "ROUTE >RECEIVING >PUBLISHED >RECORDS BAD >LAG LAST"


@click.command()
@click.option("--check", is_flag=True, help="Exit with 1 when something is degraded.")
@verb
def status_command(settings: Settings, check: bool) -> ExitCode:
    """Show what kfd is doing, and what is wrong.

    QUEUED and SENDING count files that wait and are in progress, IN-KAFKA those of which no
    receiver has confirmed yet that it has them, DELIVERED those that are confirmed. RECORDS are the
    messages read from Kafka, PUBLISHED the files put together completely.
    """
    with settings.connect() as client:
        status = client.call(GetStatusParameters(), GetStatusReply).status
    if settings.as_json:
        print_json(status=status)
    else:
        for line in lines(status):
            say(line)
    return ExitCode.FAILED if check and _degraded(status) else ExitCode.DONE


def lines(status: Status) -> Iterator[str]:
    """The text of a status."""
    yield from wrapped(headline(status), width())
    if status.uploads:
        yield from table(_UPLOADS, [_upload(route) for route in status.uploads])
    if status.downloads:
        yield from table(_DOWNLOADS, [_download(route) for route in status.downloads])
    yield from _bad_receipts(status.uploads)
    yield from wrapped(_footline(status), width())
    yield from _catalogues(status)
    yield from paused(status)
    yield from problems(status)


def problems(status: Status) -> Iterator[str]:
    """What is wrong, each with its fix on a line of its own, to be copied."""
    for problem in status.problems:
        mark = coloured("!", "red") if problem.degrades else "!"
        text = f"{problem.scope}: {problem.text} since {clock(problem.since)}"
        yield from wrapped(f"{mark} {plain(text)}", width())
        if problem.fix:
            yield f"  fix: {plain(problem.fix)}"


def paused(status: Status) -> Iterator[str]:
    """A line for each route that is paused."""
    routes: list[UploadRoute | DownloadRoute] = [*status.uploads, *status.downloads]
    since = {
        (route.route, route.topic if not route.route else ""): route.paused_since
        for route in routes
        if route.paused_since is not None
    }
    for (name, topic), at in since.items():
        go_on = f"kfdctl resume {name}".rstrip()
        line = f"{name or f'-> {topic}'}: paused since {clock(at)}; to go on: {go_on}"
        yield from wrapped(line, width())


def _degraded(status: Status) -> bool:
    return status.state is DaemonState.DEGRADED or any(one.degrades for one in status.problems)


def headline(status: Status) -> str:
    """The first line: who it is, and how it is."""
    if status.state is DaemonState.DEGRADED:
        state = coloured("DEGRADED", "red")
    else:
        state = status.state.value
    sent = human_rate(_rate(status.uploads))
    received = human_rate(_rate(status.downloads))
    return (
        f"kfd {status.version} on {status.origin}: {state},"
        f" up {human_duration(max(0.0, round(time.time() - status.started_at)))},"
        f" brokers {status.brokers_up}/{status.brokers_known},"
        f" {sent} out, {received} in"
    )


def _rate(routes: Sequence[UploadRoute] | Sequence[DownloadRoute]) -> float:
    return sum(route.bytes_per_second for route in routes)


def _bad_receipts(routes: Sequence[UploadRoute]) -> Iterator[str]:
    """A line for each topic with receipts that were not used."""
    for topic, bad in {route.topic: route.bad for route in routes}.items():
        if any(bad.values()):
            yield f"receipts about {topic} not used: {_bad(bad)}"


def _catalogues(status: Status) -> Iterator[str]:
    """A line for each of which something is to be told."""
    for one in status.catalogues:
        parts = [f"{counted(one.waiting, 'row')} waiting" if one.waiting else ""]
        refused = f"{counted(one.refused)} refused (kfdctl catalogue status)"
        parts += [refused if one.refused else ""]
        said = ", ".join(filter(None, parts)) or f"{count(one.written, 'row')} written"
        yield from wrapped(f"catalogue {one.name}: {said}", width())


def _footline(status: Status) -> str:
    parts = [
        f"threads {status.producer_threads}+{status.consumer_threads}",
        f"queue {status.queue_records}/{status.queue_records_max} records",
        _quarantine(status),
    ]
    if status.spool_used:
        used, most = human_size(status.spool_used), human_size(status.spool_max)
        parts.append(f"spool {used} of {most}")
    if status.disk_free is not None:
        parts.append(f"disk {human_size(status.disk_free)} free")
    return "; ".join(parts)


def _quarantine(status: Status) -> str:
    kept = f" ({human_size(status.quarantine_used)} kept)" if status.quarantine_used else ""
    return f"quarantine {status.quarantine}{kept}"


def _upload(route: UploadRoute) -> list[str]:
    counts = (route.queued, route.sending, route.in_kafka, route.delivered, route.failed)
    name = route.route if route.directory is not None else destination(route)
    return [name, *(f"{number:,}" for number in counts), _last(route)]


def destination(route: UploadRoute) -> str:
    """``-> TOPIC``, with the name of the route that isn't there any more."""
    gone = f" ({route.route})" if route.route and route.directory is None else ""
    return f"-> {route.topic}{gone}"


def _download(route: DownloadRoute) -> list[str]:
    counts = (route.receiving, route.published, route.records)
    lag = "?" if route.lag is None else f"{route.lag:,}"
    return [route.route, *(f"{number:,}" for number in counts), _bad(route.bad), lag, _last(route)]


def _bad(reasons: Mapping[str, int]) -> str:
    """``3 (foreign)``, or ``5 (foreign 3, malformed 2)``."""
    found = {reason: number for reason, number in reasons.items() if number}
    if len(found) < 2:
        return "".join(f"{number:,} ({reason})" for reason, number in found.items()) or "0"
    each = ", ".join(f"{reason} {number:,}" for reason, number in found.items())
    return f"{sum(found.values()):,} ({each})"


def _last(route: UploadRoute | DownloadRoute) -> str:
    if route.last is None or route.last_at is None:
        return "-"
    return f"{clock(route.last_at)} {plain(route.last)}"
