"""What can be wrong with a value of the configuration, before file and line are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from kfd.yamlfile import KeyPath


@dataclass(frozen=True, slots=True)
class Wrong:
    """One fault: the key it is in, what it is, and the nearest right thing."""

    key: KeyPath
    what: str
    fix: str


class WrongValuesError(ValueError):
    """Several faults of one section; their keys are relative to it."""

    def __init__(self, faults: list[Wrong]) -> None:
        super().__init__("; ".join(fault.what for fault in faults))
        self.faults = faults


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean "topic"?``, or the list of what is known where nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f'did you mean "{close[0]}"?' if close else f"one of: {', '.join(names)}"
