"""Metadata as options give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kfd.errors import UsageError


def parse_meta(pairs: Sequence[str]) -> Mapping[str, str] | None:
    """What ``--meta`` says; raises :class:`UsageError`."""
    meta = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--meta {pair}: write it as KEY=VALUE", fix="for example --meta sample=42"
            )
        if key in meta:
            raise UsageError(f"--meta {key}: given twice", fix="leave out one of the two")
        meta[key] = value
    return meta or None
