"""Reads the old programs' files: INI as Python's configparser takes it, with the line of each key.

As there, keys are in lower case, ``[DEFAULT]`` goes into every section, ``%%`` is a percent sign,
and a value that begins with ``$`` is an environment variable's. No error quotes a value.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kfd.errors import ConfigError, all_of
from kfd.yamlfile import text_of


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """A key. ``written`` is what stands in the file, ``value`` with variables put in: None where
    one isn't set. ``common``: it stands in the section for all."""

    name: str
    written: str
    value: str | None
    line: int
    common: bool = False

    @property
    def from_environment(self) -> bool:
        return self.written.startswith("$")


@dataclass(frozen=True, slots=True)
class OldConfig:
    """The sections, with their keys in the order of the file."""

    name: str
    sections: Mapping[str, Mapping[str, Entry]]
    lines: Mapping[str, int]  # section → where it begins

    def where(self, line: int) -> str:
        return f"{self.name}:{line}"


def read(path: Path) -> OldConfig:
    """Raises :class:`ConfigError` with file and line, as reading a ``kfd.yaml`` does."""
    source = _Lines(text_of(path))
    parser = configparser.ConfigParser()
    parser.optionxform = source.note  # type: ignore[assignment]  # it is asked at each key's line
    try:
        parser.read_file(source)
    except configparser.Error as error:
        raise _fault(error, path.name) from None
    parser.optionxform = str.lower  # type: ignore[assignment]
    starts = source.sections(parser)
    common = source.span(starts, configparser.DEFAULTSECT)
    sections: dict[str, dict[str, Entry]] = {}
    faults: list[ConfigError] = []
    for section in parser.sections():
        sections[section] = {}
        for key in parser[section]:
            line = source.line_of(starts, section, key)
            try:
                written = parser[section][key]
            except configparser.InterpolationError:
                what = f"{section}.{key}: a % that stands for nothing"
                fix = "write %% for a percent sign"
                faults.append(ConfigError(what, where=f"{path.name}:{line}", fix=fix))
                continue
            value = _expanded(written)
            sections[section][key] = Entry(key, written, value, line, common=line in common)
    if faults:
        raise all_of(faults)
    return OldConfig(path.name, sections, starts)


class _Lines:
    """The lines, one by one, and at which of them each key was met."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)
        self._at = 0
        self._keys: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._lines, 1):
            self._at = number
            yield line

    def note(self, key: str) -> str:
        self._keys.append((self._at, key.lower()))
        return key.lower()

    def sections(self, parser: configparser.ConfigParser) -> dict[str, int]:
        """Where each begins."""
        found = {}
        for number, line in enumerate(self._lines, 1):
            header = parser.SECTCRE.match(line.strip())
            if header is not None:
                found[header["header"]] = number
        return found

    def span(self, starts: Mapping[str, int], section: str) -> range:
        """The lines below its header; none if there is no such section."""
        first = starts.get(section, len(self._lines))
        end = min((one for one in starts.values() if one > first), default=len(self._lines) + 1)
        return range(first + 1, end)

    def line_of(self, starts: Mapping[str, int], section: str, key: str) -> int:
        """In its section, else in the one for all."""
        for name in (section, configparser.DEFAULTSECT):
            span = self.span(starts, name)
            lines = [line for line, known in self._keys if known == key and line in span]
            if lines:
                return lines[-1]
        return starts.get(section, 1)


def _fault(error: configparser.Error, name: str) -> ConfigError:
    """What it says is quoted nowhere: it may be a secret."""
    line = getattr(error, "lineno", None)
    if line is None and isinstance(error, configparser.ParsingError):
        line = error.errors[0][0]
    kinds: Mapping[type, tuple[str, str]] = {
        configparser.MissingSectionHeaderError: (
            "no section", "begin with [broker]; is it a file of openmsistream?"
        ),
        configparser.DuplicateSectionError: ("a section that was there before", "join the two"),
        configparser.DuplicateOptionError: ("a key that was there before", "remove one of the two"),
    }  # fmt: skip
    what, fix = kinds.get(type(error), ("neither KEY = VALUE nor [SECTION]", "mend the line"))
    return ConfigError(what, where=f"{name}:{line or 1}", fix=fix)


def _expanded(written: str) -> str | None:
    """With this process's variables put in; None where one isn't set."""
    if not written.startswith("$"):
        return written
    value = os.path.expandvars(written)
    return None if value == written else value
