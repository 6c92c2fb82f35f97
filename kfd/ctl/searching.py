"""Options by which transfers are looked for, and the moments and patterns that they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from kfd.control import MAX_CONDITIONS, MAX_LISTED, ListParameters, State
from kfd.ctl.completion import complete_route
from kfd.ctl.meta import meta_option, parse_meta
from kfd.ctl.texts import check_text
from kfd.errors import UsageError
from kfd.units import WrongValueError, parse_duration

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Epoch seconds: so long ago, or a date with or without a time, local if it says no zone."""
    if value is None:
        return None
    try:
        return time.time() - parse_duration(value)
    except WrongValueError:
        pass
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter("write 2h, 7d, 2026-11-23, or '2026-11-23 14:30'") from None


_OPTIONS = (
    click.option(
        "--state",
        type=click.Choice([state.value.replace("_", "-") for state in State]),
        help="Only those in it.",
    ),
    click.option(
        "--route", metavar="ROUTE", callback=check_text, shell_complete=complete_route,
        help="Only those of it.",
    ),
    click.option(
        "--name", metavar="GLOB", callback=check_text,
        help="Only files of this name, or path: '*.trc'.",
    ),
    click.option(
        "--since", metavar="TIME", callback=_moment, help="Only what ended, or came, since: 2h."
    ),
    click.option("--until", metavar="TIME", callback=_moment, help="Only what did before."),
    meta_option("Only files with it"),
)  # fmt: skip


limit_option = click.option(
    "--limit",
    type=click.IntRange(1, MAX_LISTED),
    default=20,
    show_default=True,
    help="At most so many.",
)


def search_options(function: _Function) -> _Function:
    """Give a verb the options; :func:`wanted` takes them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def wanted(
    limit: int,
    *,
    state: str | None,
    route: str | None,
    name: str | None,
    since: float | None,
    until: float | None,
    meta: tuple[str, ...],
) -> ListParameters:
    """What to ask the daemon for. Raises :class:`kfd.errors.UsageError`."""
    if len(meta) > MAX_CONDITIONS:
        raise UsageError(
            f"--meta: given {len(meta)} times, {MAX_CONDITIONS} are the most", fix="give less"
        )
    return ListParameters(
        state=State(state.replace("-", "_")) if state is not None else None,
        route=route,
        limit=limit,
        name=name,
        since=since,
        until=until,
        meta=parse_meta(meta),
    )
