"""The four outcomes of a check."""

from __future__ import annotations

from kfd.control.examination import Check, Outcome
from kfd.errors import KfdError


def well(name: str, text: str) -> Check:
    """All is as it should be."""
    return Check(name, Outcome.OK, text)


def doubtful(name: str, text: str, fix: str) -> Check:
    """It works, but somebody should know."""
    return Check(name, Outcome.WARN, text, fix)


def wrong(name: str, text: str, fix: str) -> Check:
    """Something doesn't work."""
    return Check(name, Outcome.FAIL, text, fix)


def skipped(name: str, text: str) -> Check:
    """It could not be looked at, and why."""
    return Check(name, Outcome.SKIPPED, text)


def failed(name: str, error: KfdError) -> Check:
    """What an error says."""
    return wrong(name, str(error), error.fix)
