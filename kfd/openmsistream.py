"""openmsistream's wire: one msgpack array a record, which holds a chunk and all about it.

For routes with ``format: openmsistream`` (docs/wire-format.md). The decoder trusts nothing: it
checks every rule that one record can break, allocates nothing from a claim, and doesn't copy the
chunk. Whether a chunk is what its digest says is asked for (:attr:`Chunk.intact`), since that
costs more than all else.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from msgpack import Unpacker, UnpackException, packb

from kfd.paths import MAX_PATH, BadPath, check_wire_path
from kfd.wire import BadRecord, Reason

DIGEST_SIZE: Final = 64  # SHA-512

Value: TypeAlias = bytes | memoryview

_FIELDS: Final = {0x99: 9, 0x9A: 10}  # of an array that has this first byte
_TEXTS: Final = {0xD9: ">B", 0xDA: ">H"}  # the length of a text that has this first byte
_BINARIES: Final = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}  # likewise
_DIGEST: Final = bytes([0xC4, DIGEST_SIZE])  # what stands before a digest
_RESERVED: Final = ("LOGS", "DataFileDownloadDirectory.log")  # in the receiver's directory
_HEAD: Final = 3 * 9 + 2 * (MAX_PATH + 3)  # bytes from the digests to the data, at most
_FLOAT: Final = 0xCB
_TAIL: Final = struct.Struct(">Bd")
_INT_LIMIT: Final = 2**63
_MTIME_LIMIT: Final = _INT_LIMIT / 10**9  # seconds that fit as nanoseconds


@dataclass(frozen=True, slots=True)
class Chunk:
    """One record. ``index`` counts from 1 to ``total``; ``offset`` is in bytes, ``mtime`` in
    seconds since the epoch: None in records of nine fields."""

    filename: str
    file_sha512: bytes
    chunk_sha512: bytes
    offset: int
    index: int
    total: int
    subdir: str
    filename_append: str
    data: memoryview
    mtime: float | None

    @property
    def path(self) -> bytes:
        """Where the file belongs in a directory: what is appended goes before the suffix."""
        stem, suffix = _split_suffix(self.filename)
        name = f"{stem}{self.filename_append}{suffix}"
        return (f"{self.subdir}/{name}" if self.subdir else name).encode()

    @property
    def chunk_size(self) -> int:
        """The length of each chunk of the file but the last one, which may be shorter."""
        last = self.index == self.total > 1
        return self.offset // (self.total - 1) if last else len(self.data)

    @property
    def mtime_ns(self) -> int | None:
        """The same in nanoseconds, as far as a float is exact: to about 0.2 µs. openmsistream
        writes 0.0 where it knows no time: that is None as well."""
        if not self.mtime:
            return None
        seconds, rest = divmod(self.mtime, 1)
        return int(seconds) * 10**9 + round(rest * 10**9)

    @property
    def intact(self) -> bool:
        """Whether the data is what ``chunk_sha512`` says."""
        return hashlib.sha512(self.data).digest() == self.chunk_sha512


def looks_like(value: Value | None) -> bool:
    """Whether a record is of this wire, as far as its first bytes tell."""
    return value is not None and _digests(value) is not None


def decode(value: Value | None) -> Chunk:
    """The chunk in a record's value, whose ``data`` is a view of it.

    Raises :class:`BadRecord`, and nothing else whatever the bytes are. Takes any thread.
    """
    start = None if value is None else _digests(value)
    if value is None or start is None:
        raise BadRecord(Reason.FOREIGN, "not a chunk of openmsistream's")
    try:
        chunk = _read(memoryview(value), start)
    except (ValueError, IndexError, UnpackException, struct.error) as error:
        raise BadRecord(Reason.MALFORMED, type(error).__name__) from None
    _check_place(chunk)
    _check_path(chunk)
    return chunk


def split_path(path: bytes) -> tuple[str, str]:
    """The subdirectory ("" for none) and the name of a file, as this wire has them.

    Raises :class:`BadPath` for a path that it can't carry.
    """
    check_wire_path(path)
    try:
        subdir, _, name = path.decode().rpartition("/")
    except UnicodeDecodeError:
        raise BadPath("the path is not UTF-8") from None
    return subdir, name


def check_sendable(path: bytes) -> None:
    """Raise :class:`BadPath` unless openmsistream's receivers can have a file of this path."""
    subdir, name = split_path(path)
    if (subdir or name).partition("/")[0] in _RESERVED:
        raise BadPath("openmsistream's programs keep their own logs there")


class Encoder:
    """Makes the records of one file."""

    def __init__(self, path: bytes, file_sha512: bytes, total: int, mtime: float) -> None:
        """``total``: its chunks, 1 for an empty file. Raises :class:`BadPath`."""
        subdir, name = split_path(path)
        self._name = f"{subdir.replace('/', '_')}_{name}"
        self._total = total
        self._before = b"\x9a" + packb(name) + packb(file_sha512) + _DIGEST
        self._between = packb(total) + packb(subdir) + packb("")
        self._after = packb(mtime)

    def key(self, index: int) -> bytes:
        """The key of the record with chunk ``index``, from 1 on."""
        return f"{self._name}_chunk_{index}_of_{self._total}".encode()

    def value(self, index: int, offset: int, data: bytes, sha512: bytes) -> bytes:
        """The record with chunk ``index``, which begins at byte ``offset`` of the file."""
        return b"".join(
            (
                self._before,
                sha512,
                packb(offset),
                packb(index),
                self._between,
                _binary_head(len(data)),
                data,
                self._after,
            )
        )


def _digests(value: Value) -> int | None:
    """Where the two digests begin: after a name, in an array of the right length."""
    head = bytes(value[:4])
    start = _text_end(head) if len(head) == 4 and head[0] in _FIELDS else None
    if start is None or value[start : start + 2] != _DIGEST:
        return None
    second = start + 2 + DIGEST_SIZE
    return start if value[second : second + 2] == _DIGEST else None


def _text_end(head: bytes) -> int | None:
    """Where the text behind the first byte ends; None if there is none."""
    if head[1] & 0xE0 == 0xA0:
        return 2 + (head[1] & 0x1F)
    size = _TEXTS.get(head[1])
    if size is None:
        return None
    return 2 + struct.calcsize(size) + int(struct.unpack_from(size, head, 2)[0])


def _read(view: memoryview, start: int) -> Chunk:
    """Read all but the data with msgpack, which would copy it."""
    [name] = _scalars(view[1:start], str)[0]
    first, second = start + len(_DIGEST), start + 2 * len(_DIGEST) + DIGEST_SIZE
    place = second + DIGEST_SIZE
    numbers_and_texts, length = _scalars(view[place : place + _HEAD], int, int, int, str, str)
    offset, index, total, subdir, append = numbers_and_texts
    data, end = _binary(view, place + length)
    return Chunk(
        filename=name,
        file_sha512=bytes(view[first : first + DIGEST_SIZE]),
        chunk_sha512=bytes(view[second:place]),
        offset=offset,
        index=index,
        total=total,
        subdir=subdir,
        filename_append=append,
        data=data,
        mtime=_mtime(view[end:], _FIELDS[view[0]]),
    )


def _scalars(view: memoryview, *kinds: type) -> tuple[list[Any], int]:
    """Values of exactly these types at its beginning, and how many bytes they take."""
    reader = Unpacker(max_buffer_size=_HEAD, max_array_len=0, max_map_len=0, max_ext_len=0)
    reader.feed(view)
    values = [reader.unpack() for _ in kinds]
    if tuple(map(type, values)) != kinds:
        raise ValueError("a field of another type")
    return values, reader.tell()


def _binary(view: memoryview, start: int) -> tuple[memoryview, int]:
    """The bytes that stand there, and where they end."""
    size = _BINARIES.get(view[start])
    if size is None:
        raise ValueError("the data is no binary")
    begin = start + 1 + struct.calcsize(size)
    end = begin + int(struct.unpack_from(size, view, start + 1)[0])
    if end > len(view):
        raise ValueError("the data is cut off")
    return view[begin:end], end


def _mtime(tail: memoryview, fields: int) -> float | None:
    """What comes after the data, and nothing after that."""
    if fields == 9 and not tail:
        return None
    kind, mtime = _TAIL.unpack(tail)
    if fields == 9 or kind != _FLOAT or not abs(mtime) < _MTIME_LIMIT:
        raise ValueError("no time, or one that can't be, or bytes left over")
    return float(mtime)


def _check_place(chunk: Chunk) -> None:
    """Every chunk but the last has the same length, and they lie one after the other."""
    length = len(chunk.data)
    size = chunk.chunk_size
    right = (
        1 <= chunk.index <= chunk.total < _INT_LIMIT
        and 0 <= chunk.offset < _INT_LIMIT - length
        and chunk.offset == (chunk.index - 1) * size
        and (0 < length <= size or chunk.total == 1)
    )
    if not right:
        raise BadRecord(Reason.MALFORMED, "number, offset and length of the chunk don't agree")


def _check_path(chunk: Chunk) -> None:
    if "/" in chunk.filename or "/" in chunk.filename_append:
        raise BadRecord(Reason.BAD_PATH, "the name of a file holds '/'")
    try:
        check_wire_path(chunk.path)
    except BadPath as error:
        raise BadRecord(Reason.BAD_PATH, str(error)) from None


def _split_suffix(name: str) -> tuple[str, str]:
    """As openmsistream does it: no suffix in ``.hidden`` and ``name.``."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def _binary_head(length: int) -> bytes:
    """What stands before bytes: the shortest that takes the length, as msgpack writes it."""
    for first, size in _BINARIES.items():
        if length < 256 ** struct.calcsize(size):
            return bytes([first]) + struct.pack(size, length)
    raise ValueError("a record of this wire takes 4 GiB")
