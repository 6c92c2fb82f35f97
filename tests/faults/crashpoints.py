"""The named crash points of the program, found in its source, so that none can be forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import CHECKOUT


def crash_points(package: Path = CHECKOUT / "kfd") -> list[str]:
    """Every name that is given to ``reach``, in order.

    Raises :class:`ValueError` for a name that is no literal, or occurs twice: tests could not tell
    where they were.
    """
    places = [
        (name, f"{file}:{line}") for file in package.rglob("*.py") for name, line in _in(file)
    ]
    found: dict[str, str] = {}
    for name, place in places:
        if name in found:
            raise ValueError(f"{name} is the name of two crash points: {found[name]}, {place}")
        found[name] = place
    return sorted(found)


def _in(file: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Call(func=ast.Name(id="reach")):
                yield _name(node, file), node.lineno


def _name(call: ast.Call, file: Path) -> str:
    match call.args:
        case [ast.Constant(value=str(name))]:
            return name
    raise ValueError(f"{file}:{call.lineno}: a crash point's name is to be a literal")
