"""``kfdctl inspect topic --extract``: one transfer of a topic in a file, verified, or nothing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kfd import paths
from kfd.ctl.appearing import appearing
from kfd.ctl.render import note, plain, print_json, say, short
from kfd.ctl.settings import Settings
from kfd.ctl.topicsource import Opened
from kfd.errors import KfdError, UsageError
from kfd.inspection.extraction import Extraction, Source
from kfd.inspection.record import Recognizer
from kfd.units import human_size

_FILE_MODE = 0o666  # before the umask


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written. ``digest`` is BLAKE3 of kfd's, SHA-512 of openmsistream's."""

    tid: str
    path: str
    path_base64: str | None
    size: int
    digest: str
    file: str


def extract_transfer(
    settings: Settings, opened: Opened, tid: str, output: Path, overwrite: bool
) -> None:
    """Write it to ``output``, which appears only if all is there and has the right digest."""
    if str(output) == "-":
        source = _to_stdout(settings, opened, tid)
        note(_told(source, "stdout"))
        return
    if not overwrite and os.path.lexists(output):
        raise KfdError("is there already", where=str(output), fix="--overwrite, or another FILE")
    with (
        appearing(output, _FILE_MODE, replace=overwrite) as descriptor,
        os.fdopen(os.dup(descriptor), "w+b") as file,
    ):
        source = _extract(opened, tid, file)
    if settings.as_json:
        shown, in_base64 = paths.to_json(source.path)
        print_json(
            extracted=Extracted(
                source.tid.hex(), shown, in_base64, source.size, source.digest, str(output)
            )
        )
    else:
        say(_told(source, plain(str(output))))


def _to_stdout(settings: Settings, opened: Opened, tid: str) -> Source:
    """By way of a file without a name: nothing is written that isn't verified."""
    if settings.as_json:
        raise UsageError("--json would mix with the file", fix="-o FILE")
    if sys.stdout.isatty():
        raise UsageError("a terminal is no place for a file", fix="-o FILE, or redirect stdout")
    with tempfile.TemporaryFile() as file:
        source = _extract_aside(opened, tid, file)
        # sys.stdout.buffer has no buffer with PYTHONUNBUFFERED, and then may write a part only.
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            shutil.copyfileobj(file, out, 1 << 20)
    return source


def _extract_aside(opened: Opened, tid: str, file: IO[bytes]) -> Source:
    """Into a file without a name, which is at its start then."""
    try:
        source = _extract(opened, tid, file)
        file.seek(0)
    except OSError as error:
        where = plain(tempfile.gettempdir())
        raise KfdError(
            f"can't be written: {error.strerror}", where=where, fix="TMPDIR=DIR, or -o FILE"
        ) from None
    return source


def _extract(opened: Opened, tid: str, file: IO[bytes]) -> Source:
    extraction, told = Extraction(tid, file), ""
    look = Recognizer(opened.reader.topic, opened.reader.topic_id, [tid]).look
    for batch in opened.batches():
        for record in batch:
            if (source := extraction.take(record, look(record))) is not None:
                file.flush()
                return source
        if opened.follow and extraction.trouble != told:
            told = extraction.trouble
            note(f"! {told}; waiting until it comes again")
        if (partition := extraction.partition) is not None:
            opened.reader.only(partition)
    raise extraction.unfinished()


def _told(source: Source, where: str) -> str:
    name = paths.escape(source.path)
    return f"{short(source.tid.hex())} {name}, {human_size(source.size)}, verified -> {where}"
