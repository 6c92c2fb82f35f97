"""``kfdctl quarantine``: what arrived and couldn't be published, and what becomes of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from kfd.control import name_fields
from kfd.control.quarantine import (
    ListQuarantineParameters,
    ListQuarantineReply,
    PurgeParameters,
    PurgeReply,
    Quarantined,
    ReleaseParameters,
    ReleaseReply,
    ShowQuarantinedParameters,
    ShowQuarantinedReply,
)
from kfd.ctl.client import Client
from kfd.ctl.completion import complete_quarantined, complete_route
from kfd.ctl.render import (
    clock,
    complain,
    count,
    note,
    plain,
    print_json,
    say,
    say_facts,
    short,
    table,
)
from kfd.ctl.searching import limit_option
from kfd.ctl.settings import Settings, duration_option, global_options, verb
from kfd.ctl.texts import check_text, to_name
from kfd.ctl.transfers import check_ids
from kfd.ctl.verbs import VerbGroup
from kfd.errors import ExitCode, KfdError, UsageError
from kfd.units import human_size

_HEADER = "ID ROUTE >SIZE AT KEPT PATH"

_route = click.option(
    "--route",
    metavar="ROUTE",
    callback=check_text,
    shell_complete=complete_route,
    help="Only what is of it.",
)


@click.group(cls=VerbGroup, no_args_is_help=False)
@global_options
def quarantine_command(**_: object) -> None:
    """Look at what arrived and couldn't be published; release or remove it.

    What is whole and only couldn't get its name is kept until then, within quarantine_max.
    """


@quarantine_command.command("list")
@_route
@limit_option
@verb
def list_command(settings: Settings, route: str | None, limit: int) -> None:
    """List what is in quarantine, the newest first."""
    with settings.connect() as client:
        answer = client.call(
            ListQuarantineParameters(route=route, limit=limit), ListQuarantineReply
        )
    if settings.as_json:
        print_json(entries=answer.entries, used=answer.used, limit=answer.limit)
    elif not answer.entries:
        note("Nothing is in quarantine.")
    else:
        for line in table(_HEADER, [_row(entry) for entry in answer.entries]):
            say(line)
        note(f"{human_size(answer.used)} of {human_size(answer.limit)} kept.")


def _row(entry: Quarantined) -> list[str]:
    return [
        short(entry.tid),
        entry.route,
        human_size(entry.size),
        clock(entry.at),
        "yes" if entry.held else "no",
        plain(f"{entry.path} ({entry.reason})"),
    ]


@quarantine_command.command("show")
@click.argument("tid", metavar="ID", shell_complete=complete_quarantined)
@_route
@verb
def show_command(settings: Settings, tid: str, route: str | None) -> None:
    """Show why a file is there, and what a release would do."""
    check_ids([tid])
    with settings.connect() as client:
        answer = client.call(ShowQuarantinedParameters(tid, route), ShowQuarantinedReply)
    if settings.as_json:
        print_json(quarantined=answer)
    else:
        say_facts(_facts(answer))


def _facts(answer: ShowQuarantinedReply) -> Iterator[tuple[str, str]]:
    entry = answer.entry
    yield "path", entry.path
    yield "id", entry.tid
    yield "reason", entry.reason
    yield "since", _moment(entry.at)
    yield "route", f"{entry.route}, topic {entry.topic}, origin {entry.origin}"
    yield "size", f"{human_size(entry.size)} ({entry.size:,} bytes)"
    yield "modified", _moment(answer.mtime)
    yield "digest", answer.digest or ""
    yield "meta", ", ".join(f"{key}={value}" for key, value in answer.meta.items())
    yield "sender told", answer.told
    yield "content", answer.file or ("kept" if entry.held else f"not kept: {entry.note}")
    yield "release", f"as {answer.release.name}" if answer.release.name else answer.release.refused
    yield "fix", answer.release.fix


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


@quarantine_command.command("release")
@click.argument(
    "ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_quarantined
)
@click.option(
    "--to",
    metavar="NAME",
    callback=to_name,
    help="Another name than its own, in the route's directory.",
)
@_route
@verb
def release_command(
    settings: Settings, ids: tuple[str, ...], to: bytes | None, route: str | None
) -> ExitCode:
    """Publish what is kept, under its own name or another one.

    Only an older version of the same file is replaced. Its sender is told that it is there.
    """
    check_ids(ids)
    if to is not None and len(ids) > 1:
        raise UsageError("--to goes with one id", fix="release them one by one")
    name = name_fields(to) if to is not None else (None, None)
    done: list[ReleaseReply] = []
    failures: list[KfdError] = []
    with settings.connect() as client:
        for one in ids:
            try:
                done.append(
                    client.call(ReleaseParameters(one, route, *name), ReleaseReply, (), None)
                )
            except KfdError as error:
                if len(ids) == 1:
                    raise
                failures.append(error)
    if settings.as_json:
        refused = [{"text": str(failure), "fix": failure.fix} for failure in failures]
        print_json(released=done, refused=refused)
    else:
        for answer in done:
            say(f"{plain(answer.entry.path)}  published as {plain(answer.name)}")
        for failure in failures:
            complain(failure)
    return failures[0].exit_code if failures else ExitCode.DONE


@quarantine_command.command("purge")
@click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=complete_quarantined)
@click.option("--all", "everything", is_flag=True, help="All that is there.")
@duration_option("--older-than", help="All that has been there for longer.")
@_route
@click.option("--yes", is_flag=True, help="Don't ask.")
@verb
def purge_command(
    settings: Settings,
    ids: tuple[str, ...],
    everything: bool,
    older_than: float | None,
    route: str | None,
    yes: bool,
) -> ExitCode:
    """Remove entries with what is kept of them: for good, and the sender isn't told.

    Asks first, on a terminal.
    """
    check_ids(ids)
    if bool(ids) + everything + (older_than is not None) != 1:
        raise UsageError("either ids, or --all, or --older-than", fix="see kfdctl quarantine list")
    request = PurgeParameters(ids or None, route, everything or None, older_than)
    with settings.connect() as client:
        if not (yes or _agreed(client, request)):
            note("Nothing was removed.")
            return ExitCode.FAILED
        answer = client.call(request, PurgeReply, (), None)
    if settings.as_json:
        print_json(entries=answer.entries, size=answer.size)
    else:
        removed = "1 entry" if answer.entries == 1 else f"{answer.entries:,} entries"
        say(f"{removed} removed, {human_size(answer.size)} freed.")
    return ExitCode.DONE


def _agreed(client: Client, request: PurgeParameters) -> bool:
    """What a person at a terminal says to it; nobody else is asked."""
    if not sys.stdin.isatty():
        return True
    if request.tids is not None:
        what = count(len(request.tids), "entry") if len(request.tids) == 1 else (
            f"{len(request.tids):,} entries"
        )  # fmt: skip
    else:
        asked = ListQuarantineParameters(route=request.route, limit=1)
        used = client.call(asked, ListQuarantineReply).used
        what = f"{'all' if request.all else 'old'} entries ({human_size(used)} are kept in all)"
    return click.confirm(f"Remove {what} for good?", err=True)
