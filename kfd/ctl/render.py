"""How things look: messages, tables, times and progress, on terminals and elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

import click

from kfd.errors import KfdError
from kfd.marshal import to_json
from kfd.units import human_duration

JSON_VERSION = 1
_PLAIN_WIDTH = 80  # columns, where there is no terminal to ask


def complain(error: KfdError) -> None:
    """An error on stderr: what and where, then the fix; the program's name unless a file's is."""
    where = "" if error.where else "kfdctl: "
    note(f"{where}{error}")
    if error.fix:
        note(f"  fix: {error.fix}")


def note(text: str) -> None:
    """A message for people, on stderr."""
    click.echo(text, err=True)


def say(text: str) -> None:
    """A line of data, on stdout."""
    click.echo(text)


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


def width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none, and nothing is cut."""
    return shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else None


def cut(line: str, columns: int | None) -> str:
    """A line that fits, its end left out where it does not."""
    return line if columns is None or len(line) <= columns else line[: columns - 1] + "…"


def table(header: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in columns. A heading that starts with ``>`` is of a column of numbers, set right."""
    names = header.split()
    cells = [[name.removeprefix(">") for name in names], *rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(names))]
    columns = width()
    return [cut(_line(row, names, widths), columns) for row in cells]


def _line(row: Sequence[str], names: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(size) if name.startswith(">") else cell.ljust(size)
        for cell, name, size in zip(row, names, widths, strict=True)
    )
    return " ".join(padded).rstrip()


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
