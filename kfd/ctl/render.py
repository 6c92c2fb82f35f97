"""How things look: messages, tables, times and progress, on terminals and elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click

from kfd.errors import KfdError
from kfd.marshal import to_json
from kfd.paths import escape
from kfd.units import human_duration

JSON_VERSION = 1
_PLAIN_WIDTH = 80  # columns, where there is no terminal to ask
_LEAST_TEXT = 12  # columns of a table's last one; where it would have less, rows are set in lines
_MOST_COUNTED = 100_000  # rows of a catalogue that wait, or were refused
_LABEL = 11  # columns of a fact's label
_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # what coloured() adds
_BREAK = re.compile(r" (?!(?<=[0-9] )(?:[KMGTPE]iB|[kMGT]?B)\b)")  # no number without its unit


def complain(error: KfdError) -> None:
    """An error on stderr: what and where, then the fix; the program's name unless a file's is.

    Either may name what a user or somebody else wrote. The fix may be a command to be copied: it
    stays on its line.
    """
    where = "" if error.where else "kfdctl: "
    for line in wrapped(plain(f"{where}{error}"), width(sys.stderr)):
        note(line)
    if error.fix:
        note(plain(f"  fix: {error.fix}"))


def note(text: str) -> None:
    """A message for people, on stderr."""
    click.echo(text, err=True)


def say(text: str) -> None:
    """A line of data, on stdout."""
    click.echo(text)


def say_wrapped(text: str, indent: str = "  ") -> None:
    """A line of data that takes several ones where the terminal has no room for it."""
    for line in wrapped(text, width(), indent):
        say(line)


def say_and_see(text: str, command: str) -> None:
    """A line of data and the command that tells more, which is never broken: it is to be copied."""
    line, columns = f"{text}  See: {command}", width()
    if columns is None or columns_of(line) <= columns:
        say(line)
    else:
        say_wrapped(text)
        say(f"  See: {command}")


def print_json(**fields: object) -> None:
    """The answer for programs: one object with the version of its shape."""
    document: dict[str, Any] = {"version": JSON_VERSION}
    document.update({name: to_json(value) for name, value in fields.items()})
    say(json.dumps(document, indent=2, ensure_ascii=False))


def on_terminal(stream: TextIO) -> bool:
    """Whether someone looks at ``stream`` on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: str) -> str:
    """``text`` for stdout, bold and in a colour, where stdout shows colours."""
    if not on_terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour, bold=True)


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that ``stream`` (stdout) is; None where it is none: nothing is cut.

    Where both are terminals, stderr's is taken for the same.
    """
    shown = (stream or sys.stdout).isatty()
    return shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns if shown else None


def plain(text: str) -> str:
    """Text of somebody else's, safe on a terminal: what could move its cursor is escaped."""
    return text if text.isprintable() else escape(text.encode(errors="surrogateescape"))


def columns_of(text: str) -> int:
    """How many columns a text takes: wide characters two, combining ones none."""
    text = _STYLE.sub("", text)
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def cut(line: str, columns: int | None) -> str:
    """A line that fits, its end left out where it does not."""
    if columns is None or columns_of(line) <= columns:
        return line
    while columns_of(line) > columns - 1:
        line = line[:-1]
    return line + "…"


def wrapped(text: str, columns: int | None, indent: str = "  ") -> list[str]:
    """A text in lines that fit, broken between words; all but the first are indented.

    A size stays with its unit, and a word that doesn't fit is left whole.
    """
    if columns is None:
        return [text]
    first, *words = _BREAK.split(text)
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if columns_of(longer) > columns and lines[-1].strip():
            lines.append(indent + word)
        else:
            lines[-1] = longer
    return lines


def table(header: str, rows: Sequence[Sequence[str]], columns: int | None = None) -> list[str]:
    """Lines in columns. A heading that starts with ``>`` is of a column of numbers, set right.

    ``columns`` is the width to fit into; by default the terminal's. Where there is no room for all
    columns, each row takes several lines.
    """
    names = header.split()
    cells = [[name.removeprefix(">") for name in names], *rows]
    widths = [max(columns_of(row[at]) for row in cells) for at in range(len(names))]
    columns = width() if columns is None else columns
    if columns is not None and sum(widths[:-1]) + len(names) - 1 + _LEAST_TEXT > columns:
        return [line for row in rows for line in _stacked(cells[0], row, columns)]
    return [cut(_line(row, names, widths), columns) for row in cells]


def _stacked(names: Sequence[str], row: Sequence[str], columns: int) -> list[str]:
    """A row as its first cell, the others with their names below, and the last one alone."""
    middle = ", ".join(
        f"{name.lower()} {cell}" for name, cell in zip(names[1:-1], row[1:-1], strict=True)
    )
    return [
        cut(row[0], columns),
        *(cut(line, columns) for line in wrapped("  " + middle, columns)),
        cut(f"  {names[-1].lower()} {row[-1]}", columns),
    ]


def _line(row: Sequence[str], names: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        _padded(cell, size, right=name.startswith(">"))
        for cell, name, size in zip(row, names, widths, strict=True)
    )
    return " ".join(padded).rstrip()


def _padded(cell: str, size: int, *, right: bool) -> str:
    blank = " " * (size - columns_of(cell))
    return blank + cell if right else cell + blank


def say_facts(facts: Iterable[tuple[str, str]]) -> None:
    """A label and its text in a line, for those that have one; texts may be of somebody else."""
    margin = _LABEL + 1
    for label, text in facts:
        for line in wrapped(f"{label:<{margin}}{plain(text)}", width(), " " * margin):
            if text:
                say(line)


def clock(at: float, now: float | None = None) -> str:
    """A time of today as ``14:02``, of this week as ``Mon 09:10``, else as ``2024-05-17``."""
    now = time.time() if now is None else now
    then, today = time.localtime(at), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%a %H:%M" if 0 <= now - at < 6 * 86400 else "%Y-%m-%d", then)


def elapsed(seconds: float) -> str:
    """How long something took: ``4.5 s``, ``36 s``, ``5m 2s``."""
    text = human_duration(seconds)
    return text if " " in text or not text.endswith("s") else f"{text[:-1]} s"


def count(number: int, thing: str) -> str:
    """``1 file``, ``3,120 files``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def counted(number: int, thing: str = "") -> str:
    """``1 row``, ``100,000+ rows``, or only the number: the daemon counts so many of a catalogue's
    rows at most."""
    shown = f"{number:,}" + ("+" if number >= _MOST_COUNTED else "")
    return f"{shown} {thing}{'' if number == 1 else 's'}" if thing else shown


def short(tid: str) -> str:
    """The end of a tid, by which people name it."""
    return tid[-8:]


class ProgressLine:
    """A line on stderr that is written over and over; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._active = on_terminal(sys.stderr)
        self._shown = False

    def show(self, text: str) -> None:
        if self._active:
            columns = shutil.get_terminal_size().columns
            click.echo(f"\r\x1b[K{cut(text, columns - 1)}", err=True, nl=False)
            self._shown = True

    def clear(self) -> None:
        """Take the line away. Idempotent."""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False
