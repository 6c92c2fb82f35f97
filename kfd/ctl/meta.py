"""Metadata as options give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from kfd.control import MAX_META
from kfd.ctl.render import plain
from kfd.ctl.texts import check_pairs
from kfd.errors import UsageError


def meta_option(what: str) -> Callable[[Any], Any]:
    """``--meta``, for :func:`parse_meta`; ``what`` it is for."""
    return click.option(
        "--meta",
        multiple=True,
        metavar="KEY=VALUE",
        callback=check_pairs,
        help=f"{what}; repeatable.",
    )


def parse_meta(pairs: Sequence[str]) -> Mapping[str, str] | None:
    """What ``--meta`` says; raises :class:`UsageError`."""
    meta: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--meta {plain(pair)}: write it as KEY=VALUE", fix="for example --meta sample=42"
            )
        if key in meta:
            raise UsageError(f"--meta {plain(key)}: given twice", fix="leave out one of the two")
        meta[key] = value
    _check_size(meta)
    return meta or None


def _check_size(meta: Mapping[str, str]) -> None:
    size = sum(len(text.encode()) for pair in meta.items() for text in pair)
    if size > MAX_META:
        raise UsageError(
            f"--meta: keys and values have {size:,} bytes together, {MAX_META:,} are the most",
            fix="put into a file what is longer, and send that too",
        )
