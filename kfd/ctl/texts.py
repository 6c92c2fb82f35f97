"""Texts and names of files that options and arguments give, refused where kfd would not take them.

The daemon would refuse them too, but its refusal is for programs: here a person learns which option
it is, and what is wrong with it. All are callbacks of click's.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from kfd.ctl.render import plain
from kfd.paths import MAX_PATH

_EMPTY = "it is empty"


def check_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Take UTF-8, as names of routes and topics, and patterns; none of them is longer than that."""
    if value is not None:
        _check_size(len(_utf8(value)))
    return value


def check_pairs(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Take UTF-8; how much it may be is told of all pairs together."""
    for pair in value:
        _utf8(pair)
    return value


def to_name(_: click.Context, __: click.Parameter, value: str | None) -> bytes | None:
    """Take the name of a file: bytes."""
    if value is None:
        return None
    name = os.fsencode(value)
    if not name:
        raise click.BadParameter(_EMPTY)
    _check_size(len(name))
    return name


def to_file(_: click.Context, __: click.Parameter, value: str | None) -> Path | None:
    """Take the path of a file that is to be written."""
    if value == "":
        raise click.BadParameter(_EMPTY)
    if value is not None and value.endswith("/"):
        raise click.BadParameter(f"{plain(value)} names a directory, not a file")
    return None if value is None else Path(value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{plain(text)} isn't UTF-8") from None


def _check_size(size: int) -> None:
    if size > MAX_PATH:
        raise click.BadParameter(f"it has {size:,} bytes, {MAX_PATH:,} are the most")
