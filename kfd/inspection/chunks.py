"""The chunks that a file has on a topic: where each lies, and its digest.

Read once from its start to its end, in pieces: memory depends neither on the file nor on the size
of a chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, Final

from blake3 import blake3

_PIECE: Final = 1 << 20  # bytes read at once


class Format(StrEnum):
    """Whose wire: the digests, and the number of the first chunk, are what it has."""

    KFD = "kfd"
    OPENMSISTREAM = "openmsistream"


@dataclass(frozen=True, slots=True)
class FileChunk:
    """One chunk. ``number`` counts as on the wire: kfd from 0, openmsistream from 1."""

    number: int
    offset: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class WholeFile:
    """All of the file, once its chunks were read."""

    path: str
    path_base64: str | None
    size: int
    chunks: int
    chunk_size: int
    format: Format
    algorithm: str
    digest: str


_ALGORITHMS: Final[Mapping[Format, tuple[str, Callable[[], Any], int]]] = {
    Format.KFD: ("BLAKE3", blake3, 0),
    Format.OPENMSISTREAM: ("SHA-512", hashlib.sha512, 1),
}


class ChunkedFile:
    """A file while it is read. ``size``, ``chunks`` and ``digest`` are those of what was read."""

    def __init__(self, file: IO[bytes], chunk_size: int, wire: Format) -> None:
        self._file = file
        self._chunk_size = chunk_size
        self.algorithm, self._hasher, self._first = _ALGORITHMS[wire]
        self._whole = self._hasher()
        self.size = 0
        self.chunks = 0

    @property
    def digest(self) -> str:
        return str(self._whole.hexdigest())

    def read(self) -> Iterator[FileChunk]:
        """Each chunk in turn; an empty file has one. Raises :class:`OSError`."""
        while True:
            chunk = self._next()
            if chunk.size == 0 and self.chunks:
                return
            self.chunks += 1
            self.size += chunk.size
            yield chunk
            if chunk.size < self._chunk_size:
                return

    def _next(self) -> FileChunk:
        hasher, size = self._hasher(), 0
        while piece := self._file.read(min(_PIECE, self._chunk_size - size)):
            hasher.update(piece)
            self._whole.update(piece)
            size += len(piece)
        return FileChunk(self._first + self.chunks, self.size, size, hasher.hexdigest())
