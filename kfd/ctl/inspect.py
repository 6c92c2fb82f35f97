"""``kfdctl inspect``: the chunks that a file would have, and what lies on a topic."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from kfd.ctl.inspecttopic import topic
from kfd.ctl.render import JSON_VERSION, count, note, say, say_wrapped, width, wrapped
from kfd.ctl.settings import Settings, global_options, verb
from kfd.ctl.verbs import VerbGroup
from kfd.errors import KfdError
from kfd.inspection.chunks import ChunkedFile, FileChunk, Format, WholeFile
from kfd.marshal import to_json
from kfd.paths import escape
from kfd.paths import to_json as path_to_json
from kfd.units import WrongValueError, human_size, parse_size

_LINES = 1000  # written at once


@click.group(cls=VerbGroup, no_args_is_help=False)
@global_options
def inspect_command(**_: object) -> None:
    """Look at the chunks of a file, or at the records on a topic. Needs no daemon."""


inspect_command.add_command(topic)


def _size(_: click.Context, __: click.Parameter, value: str) -> int:
    try:
        size = parse_size(value)
    except WrongValueError as error:
        raise click.BadParameter(f"{error}; {error.fix}" if error.fix else str(error)) from None
    if size == 0:
        raise click.BadParameter("a chunk has a byte at least")
    return size


@inspect_command.command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--chunk-size", metavar="SIZE", default="512KiB", show_default=True, callback=_size,
    help="Bytes of a chunk.",
)  # fmt: skip
@click.option(
    "--format", "wire", type=click.Choice([one.value for one in Format]), default="kfd",
    show_default=True, help="Whose digests and numbers.",
)  # fmt: skip
@verb
def file(settings: Settings, path: Path, chunk_size: int, wire: str) -> None:
    """Print every chunk of PATH with its number, offset, size and digest, then the file's own.

    kfd's digest is BLAKE3 (b3sum prints the same of the file), openmsistream's SHA-512. On a
    narrow terminal the digest of a chunk has a line of its own. With --json, each line is a chunk,
    and the last one is the file.
    """
    if chunk_size.bit_count() != 1:
        note("chunks of files on a topic have a power of two of bytes; these haven't")
    with _reading(path):
        opened = open(path, "rb")  # noqa: SIM115 - closed below: what is printed has other errors
    with opened:
        _print(settings, path, opened, chunk_size, Format(wire))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Its errors; those of stdout are not."""
    try:
        yield
    except OSError as error:
        raise KfdError(
            f"can't be read: {error.strerror}", where=escape(os.fsencode(path)), fix="look at PATH"
        ) from None


def _print(
    settings: Settings, path: Path, opened: IO[bytes], chunk_size: int, wire: Format
) -> None:
    before = os.fstat(opened.fileno())
    read = ChunkedFile(opened, chunk_size, wire)
    chunks = _chunks(path, read)
    if settings.as_json:
        _say_all(_document("chunk", one) for one in chunks)
    else:
        _say_all(_rows(chunks, read.algorithm, before.st_size, chunk_size))
    _check_unchanged(path, before, os.fstat(opened.fileno()))
    shown, in_base64 = path_to_json(os.fsencode(path))
    whole = WholeFile(
        shown, in_base64, read.size, read.chunks, chunk_size, wire, read.algorithm, read.digest
    )
    if settings.as_json:
        say(_document("file", whole))
        return
    say_wrapped(f"{whole.algorithm} {whole.digest}")
    amount = f"{human_size(whole.size)} ({count(whole.size, 'byte')})"
    say_wrapped(f"{count(whole.chunks, 'chunk')}, {amount}: {shown}")


def _check_unchanged(path: Path, before: os.stat_result, after: os.stat_result) -> None:
    if not stat.S_ISREG(before.st_mode):
        return
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise KfdError(
            "changed while it was read: the digests are of no version of it",
            where=escape(os.fsencode(path)),
            fix="try again when it stands still",
        )


def _chunks(path: Path, read: ChunkedFile) -> Iterator[FileChunk]:
    with _reading(path):
        yield from read.read()


def _rows(chunks: Iterator[FileChunk], algorithm: str, size: int, chunk_size: int) -> Iterator[str]:
    """In columns as wide as the last chunk needs."""
    number = max(6, len(str(-(-size // chunk_size))))
    place, length = max(6, len(str(size))), max(4, len(str(min(size, chunk_size))))
    yield f"{'NUMBER':>{number}} {'OFFSET':>{place}} {'SIZE':>{length}} {algorithm}"
    for one in chunks:
        yield f"{one.number:>{number}} {one.offset:>{place}} {one.size:>{length}} {one.digest}"


def _document(name: str, value: FileChunk | WholeFile) -> str:
    return json.dumps({"version": JSON_VERSION, name: to_json(value)}, ensure_ascii=False)


def _say_all(lines: Iterator[str]) -> None:
    """Line by line would cost more than the digests."""
    columns, waiting = width(), []
    for line in lines:
        waiting += wrapped(line, columns)
        if len(waiting) >= _LINES:
            say("\n".join(waiting))
            waiting.clear()
    if waiting:
        say("\n".join(waiting))
