"""The options that every verb takes, before and after its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from kfd.ctl.client import Client, connect
from kfd.units import WrongValueError, parse_duration

_CONNECT_TIMEOUT = 5.0  # seconds

_Function = TypeVar("_Function", bound=Callable[..., Any])


def duration_option(name: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """An option whose value is seconds, from ``30``, ``30s``, ``5m``, ``1.5h``."""
    return click.option(name, metavar="TIME", callback=_parse_duration, **attributes)


def _parse_duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    if value.startswith("-"):
        raise click.BadParameter(f"{value!r} is less than nothing; write it like 30s, 5m, 24h")
    try:
        return parse_duration(value if value[-1:].isalpha() else f"{value}s")
    except WrongValueError as error:
        raise click.BadParameter(f"{error}; {error.fix}" if error.fix else str(error)) from None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user said with the global options."""

    as_json: bool
    socket: Path | None
    connect_timeout: float

    def connect(self) -> Client:
        """A connection to the daemon; raises :class:`kfd.errors.KfdError`."""
        return connect(self.socket, self.connect_timeout)


_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    click.option(
        "--socket",
        type=click.Path(path_type=Path, readable=False),  # who may not use it is told that
        metavar="FILE",
        help="The daemon's control socket.  [env: KFD_SOCKET]",
    ),
    duration_option(
        "--connect-timeout", help=f"How long to try to connect.  [default: {_CONNECT_TIMEOUT:g}s]"
    ),
)


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the global options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the global options; its function gets them as :class:`Settings`, first."""

    @functools.wraps(function)
    def with_settings(
        as_json: bool, socket: Path | None, connect_timeout: float | None, **own: Any
    ) -> Any:
        return function(_settings(as_json, socket, connect_timeout), **own)

    return global_options(with_settings)


def _settings(as_json: bool, socket: Path | None, connect_timeout: float | None) -> Settings:
    """The verb's own options, then those of the commands before it, the nearest first."""
    context = click.get_current_context().parent
    while context is not None:
        as_json = as_json or context.params.get("as_json", False)
        socket = socket or context.params.get("socket")
        if connect_timeout is None:
            connect_timeout = context.params.get("connect_timeout")
        context = context.parent
    return Settings(
        as_json, socket, _CONNECT_TIMEOUT if connect_timeout is None else connect_timeout
    )
