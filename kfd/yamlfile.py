"""Reads a YAML file into text, lists and mappings, and remembers on which line each key stands.

Every scalar is the text that stands in the file: ``yes``, ``0640``, ``1e5`` and ``2024-01-01`` stay
what was typed, and the reader of a key decides what it means. So no password ever becomes a number.
Anchors, aliases and tags are refused, size and depth are bounded: no file can grow when it is read.
No error text quotes the file's content, which may be a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import yaml
from yaml.reader import ReaderError

from kfd.errors import ConfigError, PermissionProblemError
from kfd.users import name_of

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32

KeyPath: TypeAlias = tuple[str | int, ...]
Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"


@dataclass(frozen=True, slots=True)
class Places:
    """Where each key stands: ``kfd.yaml:21``, or the option that gave it.

    Any two are equal: two configurations that say the same differ in nothing.
    """

    by_key: Mapping[KeyPath, str] = field(default_factory=dict, compare=False)

    def where(self, key: KeyPath) -> str:
        """The place of ``key``, or of the nearest key around it that was written."""
        for end in range(len(key), -1, -1):
            place = self.by_key.get(key[:end])
            if place is not None:
                return place
        return ""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says. ``duplicates`` are the places of keys that stand there twice."""

    value: Value
    places: Places
    duplicates: tuple[tuple[KeyPath, str], ...]


def read(path: Path) -> Document:
    """Read ``path``; raises :class:`ConfigError` or :class:`PermissionProblemError`."""
    return parse(text_of(path), path.name)


def text_of(path: Path) -> str:
    """What is in a configuration file; raises as :func:`read`."""
    return _decoded(_content(path), path)


def small_file(path: Path, limit: int) -> bytes:
    """What is in ``path``, but at most ``limit`` bytes and one; raises :class:`OSError`.

    Doesn't wait for the writer of a FIFO that was named by mistake.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        return file.read(limit + 1) or b""


def parse(text: str, name: str) -> Document:
    """Parse ``text``; ``name`` is what places call it. Raises :class:`ConfigError`."""
    root = _composed(text, name)
    reading = _Reading(name, {(): f"{name}:1"}, [])
    value = reading.value(root, ()) if root is not None else None
    return Document(value, Places(reading.places), tuple(reading.duplicates))


def _composed(text: str, name: str) -> yaml.Node | None:
    try:
        return _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        fault = _syntax_error(error, name)
    except ReaderError as error:
        where = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        fault = ConfigError("a control character", where=where, fix="write plain text")
    raise fault  # not from within: what PyYAML raises quotes the file


class _Loader(yaml.SafeLoader):
    """Composes nodes, without aliases (and all they make possible) and with a bounded depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # PyYAML has no type for it
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError("aliases (*name) are not used here", event, "*")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _RefusedError("anchors (&name) are not used here", event, "&")
        if getattr(event, "tag", None) is not None:
            raise _RefusedError("tags (!name) are not used here", event, "!")
        if self._depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _RefusedError(yaml.MarkedYAMLError):
    def __init__(self, problem: str, event: yaml.Event, sign: str) -> None:
        mark = event.start_mark
        assert isinstance(mark, yaml.Mark)
        super().__init__(problem=problem, problem_mark=mark)
        self.fix = f"write the value out; put text that begins with {sign} in quotes"


@dataclass(slots=True)
class _Reading:
    """Turns nodes into values and notes the places of their keys."""

    name: str
    places: dict[KeyPath, str]
    duplicates: list[tuple[KeyPath, str]]

    def value(self, node: yaml.Node, path: KeyPath) -> Value:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._items(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return None if node.value == "" and node.style is None else str(node.value)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Value]:
        mapping: dict[str, Value] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(
                    "a key that is a list or a mapping", where=place, fix="write KEY: VALUE"
                )
            key = str(key_node.value)
            if key in mapping:
                self.duplicates.append(((*path, key), place))
                continue
            self.places[*path, key] = place
            mapping[key] = self.value(value_node, (*path, key))
        return mapping

    def _items(self, node: yaml.SequenceNode, path: KeyPath) -> list[Value]:
        items: list[Value] = []
        for index, item in enumerate(node.value):
            self.places[*path, index] = self._place(item)
            items.append(self.value(item, (*path, index)))
        return items

    def _place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def _content(path: Path) -> bytes:
    try:
        content = small_file(path, MAX_BYTES)
    except PermissionError:
        raise PermissionProblemError(
            f"not readable by {name_of(os.geteuid())}",
            where=str(path),
            fix=f"let the user of kfd read it: {path}; anybody else: sudo",
        ) from None
    except FileNotFoundError:
        raise ConfigError(
            "no such file", where=str(path), fix="write it, or name another"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"not readable: {error.strerror}", where=str(path), fix="name a file that can be read"
        ) from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"longer than {MAX_BYTES // 1024} KiB", where=str(path), fix="is it the right file?"
        )
    return content


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    raise ConfigError("not UTF-8", where=f"{path.name}:{line}", fix="save the file as UTF-8")


# What the scanner and parser say of the most common slips. Their own texts quote the file.
_SLIPS = {
    "mapping values are not allowed here": "check the indentation, and quote text that holds ': '",
    "found character '\\t' that cannot start any token": "indent with spaces, not tabs",
    "could not find expected ':'": "write KEY: VALUE, with a space after the colon",
}


def _syntax_error(error: yaml.MarkedYAMLError, name: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}" if mark is not None else name
    if isinstance(error, _RefusedError):
        return ConfigError(str(error.problem), where=where, fix=error.fix)
    if error.problem == "nested too deep":
        return ConfigError(error.problem, where=where, fix=f"at most {MAX_DEPTH} levels")
    fix = _SLIPS.get(error.problem or "", "check indentation, brackets and quotes up to this line")
    return ConfigError("not valid YAML", where=where, fix=fix)
