"""What an old program's file is in kfd's terms, as it is gathered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kfd.oldconfig.reading import Entry

UNKNOWN: Final = "CHANGE-ME"  # stands where a value has to be put in by hand


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know. ``blocking``: until it is mended, kfd doesn't do what the old one did."""

    line: int
    text: str
    fix: str = ""
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """One of ``kafka:``; ``secret_file``: where the secret is to be, which is not in ``value``."""

    name: str
    value: str
    comment: str = ""
    secret_file: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line adds."""

    topic: str | None = None
    upload: str | None = None
    download: str | None = None
    format: str = "kfd"
    group: str | None = None


@dataclass(slots=True)
class Imported:
    """What the file is in kfd's terms. ``left_out``: keys with the reason, in their order;
    ``lines``: from where in the old file a key of kfd's comes, by its last part."""

    properties: list[Property] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    upload: dict[str, object] = field(default_factory=dict)
    download: dict[str, object] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def value(self, key: str, entry: Entry) -> str | None:
        """What stands there, for this key of kfd's; None, and a note, if a variable isn't set."""
        self.lines.setdefault(key, entry.line)
        if entry.value is None:
            text = f"{entry.name}: {entry.written} is not set here"
            self.blocked(entry, text, "set it and import again, or edit the result")
        return entry.value

    def told(self, entry: Entry, text: str, fix: str) -> None:
        """A note about it."""
        self.notes.append(Note(entry.line, text, fix))

    def blocked(self, entry: Entry, text: str, fix: str) -> None:
        """A note about it, of what has to be mended."""
        self.notes.append(Note(entry.line, text, fix, blocking=True))
