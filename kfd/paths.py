"""Names of files: what may come over the wire, how it is shown, and where it goes.

A path is bytes, as on the disk; only what is shown to people or put into JSON is text. Nothing
here touches the file system.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

MAX_PATH: Final = 1024  # bytes
MAX_NAME: Final = 255  # bytes of one component, as on every Linux file system
MAX_DEPTH: Final = 32  # components
RESERVED: Final = b".kfd"  # kfd's own directory inside a route's

_MAX_EXTENSION: Final = 16  # bytes with the dot; a longer one is taken for a part of the stem
_PLACEHOLDER: Final = re.compile(r"\{(origin|path|topic)\}")


class BadPath(ValueError):  # noqa: N818 - the name says it; it is not an error of kfd's own
    """A path that may not be used. The text is a reason without the path itself."""


def check_wire_path(path: bytes) -> None:
    """Raise :class:`BadPath` unless ``path`` stays, as it is, inside any directory it is put in."""
    if not path:
        raise BadPath("the path is empty")
    if len(path) > MAX_PATH:
        raise BadPath(f"the path has more than {MAX_PATH} bytes")
    if b"\0" in path:
        raise BadPath("the path holds a NUL byte")
    if path.startswith(b"/"):
        raise BadPath("the path starts with '/'")
    _check_components(path.split(b"/"))


def _check_components(components: list[bytes]) -> None:
    if len(components) > MAX_DEPTH:
        raise BadPath(f"the path is more than {MAX_DEPTH} components deep")
    if components[0] == RESERVED:
        raise BadPath(f"'{RESERVED.decode()}' belongs to kfd")
    for component in components:
        if not component:
            raise BadPath("a component of the path is empty")
        if component in (b".", b".."):
            raise BadPath(f"a component of the path is '{component.decode()}'")
        if len(component) > MAX_NAME:
            raise BadPath(f"a component of the path has more than {MAX_NAME} bytes")


def escape(path: bytes) -> str:
    """The path as text that is safe in terminals and logs, and can be turned back.

    UTF-8 is shown as it is. A backslash becomes two; every byte of what is not UTF-8, or not
    printable (control and format characters, the bidirectional ones among them, line separators,
    spaces other than the plain one), becomes ``\\xNN``.
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    encoded = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in encoded)


def to_json(path: bytes) -> tuple[str, str | None]:
    """The escaped text and, where that is not the path itself, the path in base64."""
    text = escape(path)
    if text.encode() == path:
        return text, None
    return text, base64.b64encode(path).decode("ascii")


def conflict_name(name: bytes, tid: bytes) -> bytes:
    """The name beside ``name`` for a file that may not replace it: ``run.conflict-TID.trc``.

    At most 255 bytes: the stem is shortened, the whole id and a short extension stay, and no
    UTF-8 character is cut in two.
    """
    stem, extension = _split_extension(name)
    tail = b".conflict-" + tid.hex().encode("ascii") + extension
    return _cut(stem, MAX_NAME - len(tail)) + tail


def _split_extension(name: bytes) -> tuple[bytes, bytes]:
    dot = name.rfind(b".")
    if dot <= 0 or len(name) - dot > _MAX_EXTENSION:
        return name, b""
    return name[:dot], name[dot:]


def _cut(stem: bytes, limit: int) -> bytes:
    if len(stem) <= limit:
        return stem
    for end in range(limit, limit - 4, -1):  # a UTF-8 character has at most 4 bytes
        if stem[end] & 0xC0 != 0x80:  # the first byte left out starts a character
            return stem[:end]
    return stem[:limit]  # not UTF-8: any place will do


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a download route puts files: directories from origin and topic, then the path."""

    text: str
    _parts: tuple[str, ...]  # literal, placeholder, literal, ...; the path comes after them

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Parse text such as ``{origin}/{path}``; raises ValueError with the reason."""
        parts = _PLACEHOLDER.split(text)
        if any("{" in literal or "}" in literal for literal in parts[::2]):
            raise ValueError("a layout knows only {origin}, {path} and {topic}")
        if parts[1::2].count("path") != 1:
            raise ValueError("a layout needs {path} exactly once")
        if text != "{path}" and not text.endswith("/{path}"):
            raise ValueError("{path} must be the last component of a layout")
        layout = cls(text, tuple(parts[:-2]))
        layout.expand("origin", b"path", "topic")
        return layout

    def expand(self, origin: str, path: bytes, topic: str) -> bytes:
        """The path below the route's directory; raises :class:`BadPath` if it breaks the rules.

        ``origin`` and ``topic`` are valid names (the decoder and Kafka see to that); a result
        that would leave the directory is refused all the same.
        """
        names = {"origin": origin, "topic": topic}
        prefix = [names[part] if place % 2 else part for place, part in enumerate(self._parts)]
        result = "".join(prefix).encode() + path
        check_wire_path(result)
        return result
