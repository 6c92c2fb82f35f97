"""The kinds of values that keys of the configuration take, each with how it is read and written.

A value comes as the text of the file (see :mod:`kfd.yamlfile`); a reader raises
:class:`kfd.units.WrongValueError` with what is wrong and the nearest right value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import pathspec
from pydantic import AfterValidator, BeforeValidator, InstanceOf, PlainSerializer

from kfd import units
from kfd.config.wrong import Wrong, WrongValuesError, nearest
from kfd.paths import Layout
from kfd.units import WrongValueError
from kfd.wire import RECEIPTS_SUFFIX


@dataclass(frozen=True, slots=True)
class Then:
    """What becomes of a file once it is delivered. ``directory``: where it is moved to."""

    action: Literal["keep", "delete", "move"]
    directory: Path | None = None

    def written(self) -> object:
        """As it is written in the configuration."""
        return self.action if self.directory is None else {"move": str(self.directory)}


KEEP = Then("keep")

MAX_METADATA = 2048  # bytes: of what may travel with a file, so that --meta has its half

_SHOWN = 60  # characters of a wrong value that an error quotes


def read_as(read: Callable[[str], object]) -> BeforeValidator:
    """A validator for a key that takes one piece of text."""

    def validate(value: object) -> object:
        given = _given(value)
        if not isinstance(given, str):
            raise WrongValueError("not a single value", "write KEY: VALUE")
        return read(given)

    return BeforeValidator(validate)


def _given(value: object) -> object:
    if value is None:
        raise WrongValueError("no value", "write one, or remove the line")
    return value


def matching(pattern: str, kind: str, hint: str) -> BeforeValidator:
    """Text that has this form."""
    form = re.compile(pattern, re.ASCII)

    def read(text: str) -> str:
        if form.fullmatch(text) is None:
            raise WrongValueError(f"{_quoted(text)} is not {kind}", hint)
        return text

    return read_as(read)


def choice(words: object) -> BeforeValidator:
    """One of the words of a ``Literal``."""
    known: tuple[str, ...] = get_args(words)

    def read(text: str) -> str:
        if text not in known:
            raise WrongValueError(f"{_quoted(text)} is not known", nearest(text, known))
        return text

    return read_as(read)


def count(least: int, most: int) -> BeforeValidator:
    """A whole number between two bounds, both included."""

    def read(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) is None:
            raise WrongValueError(f"{_quoted(text)} is not a whole number", f"{least} to {most}")
        if not least <= int(text) <= most:
            nearer = min(max(int(text), least), most)
            raise WrongValueError(f"{text} is not between {least} and {most}", f"write {nearer}")
        return int(text)

    return read_as(read)


def only(written: object, value: object, reason: str) -> BeforeValidator:
    """A key of a feature that is not there yet: its default as written, and nothing else."""

    def validate(found: object) -> object:
        if found != written:
            raise _not_yet(written, reason)
        return value

    return BeforeValidator(validate)


def only_value(written: str, value: float, reason: str) -> AfterValidator:
    """The same for a number, however it is written."""

    def validate(found: float) -> float:
        if found != value:
            raise _not_yet(written, reason)
        return found

    return AfterValidator(validate)


def _not_yet(written: object, reason: str) -> WrongValueError:
    # What was found isn't quoted: in a catalogue's address there is a password.
    return WrongValueError(f"only {written} for now; {reason}", f"write {written}")


def at_least(least: float, written: str) -> AfterValidator:
    """A lower bound of a number, and how it is written."""

    def validate(value: float) -> float:
        if value < least:
            raise WrongValueError("too small", f"at least {written}")
        return value

    return AfterValidator(validate)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _read_flag(text: str) -> bool:
    if text not in {"true", "false"}:
        meant = {"yes": "true", "on": "true", "1": "true"}.get(text.lower())
        meant = meant or {"no": "false", "off": "false", "0": "false"}.get(text.lower())
        fix = f'did you mean "{meant}"?' if meant else nearest(text.lower(), ("true", "false"))
        raise WrongValueError(f"{_quoted(text)} is neither true nor false", fix)
    return text == "true"


def _read_directory(text: str) -> Path:
    if not text.startswith("/"):
        raise WrongValueError(f"{_quoted(text)} is not an absolute path", "begin it with /")
    if "\0" in text or ".." in text.split("/"):
        raise WrongValueError(f"{_quoted(text)} holds a NUL or ..", "write the path without it")
    return Path("/", text.lstrip("/"))


def _read_mode(text: str) -> int:
    if re.fullmatch(r"0?[0-7]{3}", text, re.ASCII) is None:
        raise WrongValueError(
            f"{_quoted(text)} is not a mode", 'three octal digits after a 0, like "0640"'
        )
    return int(text, 8)


def _check_directory_mode(mode: int) -> int:
    if mode & 0o700 != 0o700:
        raise WrongValueError(
            "its owner, kfd, could not use it", f'did you mean "{mode | 0o700:04o}"?'
        )
    return mode


def chunk_size_below(size: int) -> int:
    """The largest that is allowed up to this one, or the smallest."""
    bounded = min(max(size, 2**10), 2**26)
    return 1 << (bounded.bit_length() - 1)


def _read_chunk_size(text: str) -> int:
    size = units.parse_size(text)
    power = chunk_size_below(size)
    if size != power:
        fix = f"did you mean {units.write_size(power)}?"
        raise WrongValueError(f"{_quoted(text)} is not a power of two from 1KiB to 64MiB", fix)
    return size


def _read_topic(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text, re.ASCII) is None or text in {".", ".."}:
        raise WrongValueError(
            f"{_quoted(text)} is not the name of a topic", "1 to 249 of A-Z a-z 0-9 . _ -"
        )
    if text.endswith(RECEIPTS_SUFFIX):
        files = text.removesuffix(RECEIPTS_SUFFIX)
        raise WrongValueError(
            f"{_quoted(text)} is for receipts about the files on {files or 'a topic'}",
            f"no topic of files ends with {RECEIPTS_SUFFIX}",
        )
    return text


def _read_layout(text: str) -> Layout:
    try:
        return Layout.parse(text)
    except ValueError as error:
        raise WrongValueError(str(error), 'write it like "{origin}/{path}"') from None


def _read_patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise WrongValueError("not a list of patterns", 'write it like ["*.trc", "!old*"]')
    wrong = [
        Wrong((index,), f"{_quoted(str(pattern))} is not a pattern", "gitignore style, like *.trc")
        for index, pattern in enumerate(value)
        if not isinstance(pattern, str) or not _is_pattern(pattern)
    ]
    if wrong:
        raise WrongValuesError(wrong)
    return tuple(value)


def _check_some(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise WrongValueError("nothing would be sent", 'write ["*"] for all files')
    return patterns


def _is_pattern(text: str) -> bool:
    """Whether it can match anything: not so an empty line, a comment, or an open bracket."""
    try:
        spec = pathspec.GitIgnoreSpec.from_lines([text])
    except ValueError:
        return False
    return all(pattern.include is not None for pattern in spec.patterns) and bool(text.strip())


def _read_then(value: object) -> Then:
    if value == "keep":
        return KEEP
    if value == "delete":
        return Then("delete")
    if isinstance(value, dict) and list(value) == ["move"] and isinstance(value["move"], str):
        return Then("move", _read_directory(value["move"]))
    raise WrongValueError(
        "neither keep nor delete nor {move: DIR}", "write keep, delete, or {move: /srv/done}"
    )


def _read_metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WrongValueError("not a mapping", "write NAME: VALUE lines below it")
    for name, text in value.items():
        if not isinstance(text, str) or "\0" in name + text:
            raise WrongValuesError([Wrong((name,), "not text", "write NAME: VALUE")])
    size = len("".join([*value.keys(), *value.values()]).encode())
    if size > MAX_METADATA:
        raise WrongValueError(f"{size} bytes", f"at most {MAX_METADATA} bytes together")
    return dict(value)


def empty_section(value: object) -> object:
    """A section whose lines are all commented out is the empty one."""
    return {} if value is None else value


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NAME_HINT = "a letter or digit, then up to 63 of A-Z a-z 0-9 . _ -"

# For a key that may be left out, but not written without a value.
Given = BeforeValidator(_given)

Name = Annotated[str, matching(_NAME, "a name", _NAME_HINT)]
Topic = Annotated[str, read_as(_read_topic)]
Group = Annotated[str, matching(r"[!-~]{1,255}", "a consumer group", "1 to 255 of ASCII, no space")]
UnixGroup = Annotated[
    str, matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}\$?", "a group", "the name of a Unix group")
]
Flag = Annotated[bool, read_as(_read_flag)]
Duration = Annotated[float, PlainSerializer(units.write_duration), read_as(units.parse_duration)]
Size = Annotated[int, PlainSerializer(units.write_size), read_as(units.parse_size)]
ChunkSize = Annotated[int, PlainSerializer(units.write_size), read_as(_read_chunk_size)]
Rate = Annotated[int | None, PlainSerializer(units.write_rate), read_as(units.parse_rate)]
MinFree = Annotated[
    InstanceOf[units.Room], PlainSerializer(units.write_room), read_as(units.parse_room)
]
Directory = Annotated[Path, PlainSerializer(str), read_as(_read_directory)]
FileMode = Annotated[int, PlainSerializer("{:04o}".format), read_as(_read_mode)]
DirectoryMode = Annotated[FileMode, AfterValidator(_check_directory_mode)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_read_patterns)]
Metadata = Annotated[dict[str, str], BeforeValidator(_read_metadata)]
SomePatterns = Annotated[Patterns, AfterValidator(_check_some)]
Thereafter = Annotated[InstanceOf[Then], PlainSerializer(Then.written), BeforeValidator(_read_then)]
LayoutText = Annotated[
    InstanceOf[Layout], PlainSerializer(lambda layout: layout.text), read_as(_read_layout)
]
