"""What the sections of a configuration have in common, and those with named entries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# The key under which the name of a route or catalogue goes into its model. It can't be meant in a
# file.
NAME_KEY = "(name)"


class Section(BaseModel):
    """Immutable; every key is known; no value is quoted in an error."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


def named(entries: object) -> object:
    """Give each entry its name, and take an empty section or entry for an empty mapping."""
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        return entries
    return {
        name: {**(entry or {}), NAME_KEY: name} if isinstance(entry, dict | None) else entry
        for name, entry in entries.items()
    }
