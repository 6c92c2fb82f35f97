"""Whether kfd takes what was made."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

from kfd.config.faults import faults_of, shown
from kfd.config.wrong import Wrong
from kfd.oldconfig.imported import UNKNOWN, Imported, Note
from kfd.propertyfaults import property_fault
from kfd.yamlfile import parse


def check(imported: Imported, text: str) -> None:
    """Note what kfd would refuse in ``text``, by the line of the old file that it comes from."""
    values: Any = parse(text, "").value
    for wrong in [*faults_of(values), *_property_faults(imported)]:
        if UNKNOWN in str(reduce(_within, wrong.key, values)):
            continue  # there is a note of that
        line = imported.lines.get(str(wrong.key[-1]), 1)
        what = f"{shown(wrong.key)}: {wrong.what}"
        imported.notes.append(Note(line, what, wrong.fix, blocking=True))


def _property_faults(imported: Imported) -> Iterator[Wrong]:
    """Of secrets, whose values are empty here, only that there is no such property."""
    for one in imported.properties:
        if (wrong := property_fault(one.name, one.value)) is not None:
            yield wrong


def _within(value: Any, key: object) -> Any:
    return value.get(key) if isinstance(value, dict) else value
