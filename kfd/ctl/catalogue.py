"""``kfdctl catalogue``: add files to catalogues, see how these stand, have rows written again."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import click

from kfd.control import File, SendParameters, Until
from kfd.control.catalogue import (
    Added,
    AddToCatalogueParameters,
    AddToCatalogueReply,
    Catalogue,
    ListCataloguesParameters,
    ListCataloguesReply,
    RefusedRow,
    RetryCatalogueParameters,
    RetryCatalogueReply,
    WaitForCatalogueParameters,
    WaitForCatalogueReply,
)
from kfd.ctl.client import Client
from kfd.ctl.handover import Order, batches
from kfd.ctl.meta import meta_option, parse_meta
from kfd.ctl.picked import ADDING, Picked, open_file, pick
from kfd.ctl.render import (
    clock,
    complain,
    count,
    counted,
    note,
    plain,
    print_json,
    say,
    say_wrapped,
    short,
    table,
)
from kfd.ctl.settings import Settings, duration_option, global_options, verb
from kfd.ctl.texts import check_text
from kfd.ctl.transfers import IDS_AT_ONCE
from kfd.ctl.verbs import VerbGroup
from kfd.errors import ExitCode, KfdError, TimedOutError, UsageError
from kfd.units import human_size

_HEADER = "CATALOGUE KIND >WAITING >REFUSED >WRITTEN LAST"
_SHOWN = 20  # refused rows

_catalogue_option = click.option(
    "--catalogue", metavar="NAME", callback=check_text, help="Only this one; else all."
)


@click.group(cls=VerbGroup, no_args_is_help=False)
@global_options
def catalogue_command(**_: object) -> None:
    """Add files to catalogues, and see how these stand."""


@catalogue_command.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@_catalogue_option
@meta_option("Goes along")
@duration_option("--timeout", help="How long to wait.")
@verb
def add(
    settings: Settings,
    *,
    paths: tuple[str, ...],
    catalogue: str | None,
    meta: tuple[str, ...],
    timeout: float | None,
) -> ExitCode:
    """Add files to catalogues without sending them, and wait until they are written.

    Adding a file twice, with the same content, time and metadata, changes nothing. Ctrl-C ends the
    waiting, not the writing.
    """
    if "-" in paths:
        raise UsageError("standard input has no name to be known by", fix="give files")
    request = AddToCatalogueParameters([], catalogue, parse_meta(meta))
    deadline = None if timeout is None else time.monotonic() + timeout
    with settings.connect() as client:
        added = _add(settings, client, request, pick(paths, recursive=False, to_be=ADDING))
        tids = [one.tid for one in added if one.tid is not None]
        refused = _wait(client, tids, catalogue, deadline) if tids else ()
    if settings.as_json:
        print_json(files=added, refused=refused)
    else:
        _tell_refused(refused)
    return ExitCode.FAILED if refused or len(tids) < len(added) else ExitCode.DONE


def _add(
    settings: Settings, client: Client, request: AddToCatalogueParameters, files: Sequence[Picked]
) -> list[Added]:
    """Hand files over, as many at once as a request holds, and say what became of each."""
    added: list[Added] = []
    order = Order(Until.QUEUED, None, SendParameters([], meta=request.meta), None)
    for batch in batches(order, files):
        answers = _hand_over(client, request, batch)
        added += answers
        for one in answers:
            if one.refused:
                complain(KfdError(f"{one.path}: {one.refused}", fix=one.fix))
            elif not settings.as_json:
                size, tid = human_size(one.size), short(one.tid or "")
                digest = (one.digest or "")[:16]
                say_wrapped(f"{plain(one.path)}  {size}  digest {digest}...  id {tid}")
    return added


def _hand_over(
    client: Client, request: AddToCatalogueParameters, batch: Sequence[tuple[Picked, File]]
) -> Sequence[Added]:
    """The digest of a large file takes long, and nothing is said meanwhile."""
    with ExitStack() as opened:
        descriptors = []
        files: list[File] = []
        answers: dict[int, Added] = {}
        for place, (picked, file) in enumerate(batch):
            try:
                descriptors.append(open_file(picked))
            except KfdError as error:
                answers[place] = Added(None, picked.shown, 0, None, error.what, error.fix)
                continue
            opened.callback(os.close, descriptors[-1])
            files.append(replace(file, descriptor=len(files)))
        request = replace(request, files=files)
        answered = iter(
            client.call(request, AddToCatalogueReply, descriptors, timeout=None).files
            if files
            else ()
        )
        return [answers.get(place) or next(answered) for place in range(len(batch))]


def _wait(
    client: Client, tids: Sequence[str], catalogue: str | None, deadline: float | None
) -> Sequence[RefusedRow]:
    """Until each is written, or refused for good; these. Raises :class:`TimedOutError`."""
    refused: list[RefusedRow] = []
    for start in range(0, len(tids), IDS_AT_ONCE):
        some = tids[start : start + IDS_AT_ONCE]
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        waiting: Sequence[str] = some
        last: Sequence[RefusedRow] = ()
        try:
            request = WaitForCatalogueParameters(some, catalogue)
            for reply in client.stream(request, WaitForCatalogueReply, left):
                waiting, last = reply.waiting, reply.refused
        except TimedOutError:
            raise TimedOutError(
                f"timed out; {count(len(waiting), 'file')} will be written later",
                fix="kfdctl catalogue status",
            ) from None
        refused += last
    return refused


@catalogue_command.command()
@_catalogue_option
@click.option(
    "--limit", type=click.IntRange(0, 10_000), default=_SHOWN, show_default=True,
    help="At most so many refused rows.",
)  # fmt: skip
@verb
def status(settings: Settings, catalogue: str | None, limit: int) -> None:
    """Show how catalogues stand, and which rows they have refused for good."""
    with settings.connect() as client:
        answer = client.call(ListCataloguesParameters(limit, catalogue), ListCataloguesReply)
    if settings.as_json:
        print_json(catalogues=answer.catalogues, refused=answer.refused)
        return
    if not answer.catalogues:
        note("No catalogue is configured.")
        return
    for line in table(_HEADER, [_row(one) for one in answer.catalogues]):
        say(line)
    _tell_refused(answer.refused)


@catalogue_command.command()
@_catalogue_option
@click.option(
    "--all", "everything", is_flag=True,
    help="Write everything that the ledger knows, not only what was refused.",
)  # fmt: skip
@verb
def retry(settings: Settings, catalogue: str | None, everything: bool) -> None:
    """Try again now, also what catalogues have refused."""
    with settings.connect() as client:
        request = RetryCatalogueParameters(catalogue, everything or None)
        answer = client.call(request, RetryCatalogueReply)
    if settings.as_json:
        print_json(catalogues=answer.catalogues, rows=answer.rows)
        return
    names = ", ".join(answer.catalogues)
    say_wrapped(f"{names}: {_tried(answer.rows, everything)}  See: kfdctl catalogue status")


def _tried(refused: int, everything: bool) -> str:
    if everything:
        return "all that the ledger knows will be written."
    if not refused:
        return "none was refused; rows that wait are tried now."
    return f"{counted(refused, 'refused row')} will be written, and what waits."


def _row(one: Catalogue) -> list[str]:
    return [
        one.name,
        one.kind,
        counted(one.waiting) + (" (all again)" if one.again else ""),
        counted(one.refused),
        f"{one.written:,}",
        clock(one.written_at) if one.written_at is not None else "-",
    ]


def _tell_refused(refused: Sequence[RefusedRow]) -> None:
    for one in refused:
        note(f"{one.catalogue} refused {plain(one.path)} ({short(one.tid)}): {plain(one.reason)}")
    if refused:
        note("  fix: see to the table, then: kfdctl catalogue retry")
