"""Wire format 1: the one record header that kfd adds to a chunk (docs/wire-format.md).

The decoder trusts nothing. It reads msgpack value by value, so that a claim allocates nothing,
and checks every rule that one record can break; :mod:`kfd.assembly` checks the others. What the
decoder refuses the encoder refuses too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from msgpack import OutOfData, Unpacker, packb, unpackb

from kfd.paths import BadPath, check_wire_path

HEADER_NAME: Final = "kfd"
RECEIPTS_SUFFIX: Final = ".receipts"  # of the topic for receipts about files; no other ends so
VERSION: Final = 1
MAX_HEADER: Final = 16 * 1024  # bytes
FLAG_SEALED: Final = 1
FLAG_ABORT: Final = 2
TID_SIZE: Final = 16
INSTANCE_SIZE: Final = 16
DIGEST_SIZE: Final = 32
MAX_META: Final = 4096  # bytes of UTF-8, keys and values together

_INT_LIMIT: Final = 2**63
_LATEST: Final = 9_223_372_000 * 10**9  # ns; 64 bits less some seconds
_MAX_NESTING: Final = 8
_ORIGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Reason(StrEnum):
    """Why a record or a transfer is not taken: the closed set that is counted and shown."""

    FOREIGN = "foreign"
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    SEALED = "sealed"
    MALFORMED_BEGIN = "malformed-begin"
    MALFORMED_END = "malformed-end"
    BAD_PATH = "bad-path"
    WRONG_TOPIC = "wrong-topic"
    TOO_BIG = "too-big"
    TOO_MANY_OPEN = "too-many-open"
    DUPLICATE = "duplicate"
    CONFLICTING_BEGIN = "conflicting-begin"
    ORPHAN = "orphan"
    GAP = "gap"
    DIGEST_MISMATCH = "digest-mismatch"
    OFFSETS_LOST = "offsets-lost"
    HEAD_LOST = "head-lost"
    EXPIRED = "expired"


class BadRecord(Exception):  # noqa: N818 - a record is bad, kfd made no error; it is counted
    """A record that is not taken. ``detail`` is fixed text, safe to log; not the record's."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Begin:
    """What the first record says about the transfer. Sizes are bytes, ``generation`` is µs."""

    path: bytes
    topic: str
    origin: str
    instance: bytes
    generation: int
    size: int
    mtime_ns: int
    mode: int
    chunk_size: int
    chunks: int
    meta: Mapping[str, str]

    def chunk_length(self, index: int) -> int:
        """The bytes of chunk ``index``: all but the last are ``chunk_size`` long."""
        return min(self.chunk_size, self.size - index * self.chunk_size)


@dataclass(frozen=True, slots=True)
class End:
    """What the last record says. ``digest`` is the BLAKE3 of the file."""

    size: int
    chunks: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The ``kfd`` header of one record."""

    tid: bytes
    index: int
    flags: int = 0
    begin: Begin | None = None
    end: End | None = None

    @property
    def aborts(self) -> bool:
        """Whether the sender gives the transfer up."""
        return bool(self.flags & FLAG_ABORT)


# The order of the fields above.
_BEGIN_TYPES: Final[Mapping[str, type]] = {
    "path": bytes,
    "topic": str,
    "origin": str,
    "instance": bytes,
    "generation": int,
    "size": int,
    "mtime_ns": int,
    "mode": int,
    "chunk_size": int,
    "chunks": int,
    "meta": dict,
}
_END_TYPES: Final[Mapping[str, type]] = {"size": int, "chunks": int, "digest": bytes}


def chunk_count(size: int, chunk_size: int) -> int:
    """How many chunks a file of ``size`` bytes has; an empty one has one."""
    return max(1, -(-size // chunk_size))


def file_time(mtime_ns: int) -> int:
    """The time nearest to it that a file can be given: file systems round down, and what they made
    of it must still have 64 bits."""
    return max(-_LATEST, min(mtime_ns, _LATEST))


def new_tid(now_ms: int, random: bytes) -> bytes:
    """A transfer's id from milliseconds since the epoch and 10 random bytes."""
    if len(random) != TID_SIZE - 6:
        raise ValueError("a transfer id takes 10 random bytes")
    return now_ms.to_bytes(6, "big") + random


def record_key(tid: bytes) -> bytes:
    """The key of every record of a transfer."""
    return tid.hex().encode("ascii")


def next_generation(last: int | None, now_us: int) -> int:
    """The generation after ``last``, whatever the clock says; ``now_us`` is since the epoch."""
    return now_us if last is None else max(last + 1, now_us)


@lru_cache(256)
def is_origin(name: str) -> bool:
    """Whether ``name`` may be the name of a sending daemon."""
    return _ORIGIN.fullmatch(name) is not None


@lru_cache(256)
def is_topic(name: str) -> bool:
    """Whether ``name`` may be the name of a Kafka topic."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def check_meta(meta: Mapping[str, str]) -> None:
    """Raise ValueError with the reason unless ``meta`` may travel with a file."""
    text = "".join([*meta.keys(), *meta.values()])
    if "\0" in text:
        raise ValueError("meta holds a NUL character")
    if len(text.encode()) > MAX_META:
        raise ValueError(f"meta has more than {MAX_META} bytes")


def encode_header(header: Header) -> bytes:
    """The value of the ``kfd`` header; raises :class:`BadRecord` if a receiver would refuse it."""
    _check_header(header)
    begin = end = None
    if header.begin is not None:
        begin = {name: getattr(header.begin, name) for name in _BEGIN_TYPES}
        begin["meta"] = dict(header.begin.meta)
    if header.end is not None:
        end = {name: getattr(header.end, name) for name in _END_TYPES}
    encoded: bytes = packb([VERSION, header.tid, header.index, header.flags, begin, end])
    return encoded


def decode_headers(headers: Sequence[tuple[str, bytes | None]] | None) -> Header:
    """The ``kfd`` header among a record's headers, as ``Message.headers()`` gives them.

    Raises :class:`BadRecord`, and nothing else whatever the bytes are. Takes any thread.
    """
    found = [value for name, value in headers or () if name == HEADER_NAME]
    if not found:
        raise BadRecord(Reason.FOREIGN, "no kfd header")
    if len(found) > 1 or found[0] is None or len(found[0]) > MAX_HEADER:
        raise BadRecord(Reason.MALFORMED, "more than one kfd header, or an empty or too long one")
    header = _build_header(_read_array(found[0]))
    _check_header(header)
    return header


def _build_header(array: list[Any]) -> Header:
    if type(array[0]) is not int:
        raise BadRecord(Reason.MALFORMED, "the version is not a number")
    if array[0] != VERSION:
        raise BadRecord(Reason.UNSUPPORTED, "another version of the format")
    if len(array) != 6 or [type(item) for item in array[1:4]] != [bytes, int, int]:
        raise BadRecord(Reason.MALFORMED, "not [version, tid, index, flags, begin, end]")
    _, tid, index, flags, begin, end = array
    if flags & FLAG_SEALED:
        raise BadRecord(Reason.SEALED, "a sealed record on a route that is not")
    return Header(
        tid,
        index,
        flags,
        None if begin is None else Begin(*_pick(begin, _BEGIN_TYPES, Reason.MALFORMED_BEGIN)),
        None if end is None else End(*_pick(end, _END_TYPES, Reason.MALFORMED_END)),
    )


def _pick(value: object, types: Mapping[str, type], reason: Reason) -> list[Any]:
    if type(value) is not dict:
        raise BadRecord(reason, "not a map")
    picked = [value.get(name) for name in types]
    if [*map(type, picked)] != [*types.values()]:
        wrong = next(name for name, kind in types.items() if type(value.get(name)) is not kind)
        raise BadRecord(reason, f"{wrong} is missing or has the wrong type")
    return picked


def _require(rule: bool, reason: Reason, detail: str) -> None:
    if not rule:
        raise BadRecord(reason, detail)


def _require_all(reason: Reason, *rules: tuple[bool, str]) -> None:
    """As :func:`_require` of each; one call, for they are many and each record has them."""
    for rule, detail in rules:
        if not rule:
            raise BadRecord(reason, detail)


def _check_header(header: Header) -> None:
    _require(len(header.tid) == TID_SIZE, Reason.MALFORMED, "the tid is not 16 bytes")
    _require(0 <= header.index < _INT_LIMIT, Reason.MALFORMED, "index is out of range")
    _require(header.flags in (0, FLAG_ABORT), Reason.UNSUPPORTED, "unknown flags")
    if header.aborts:
        plain = header.begin is None and header.end is None
        _require(plain, Reason.MALFORMED, "an abort with begin or end")
        return
    first = (header.begin is not None) == (header.index == 0)
    _require(first, Reason.MALFORMED_BEGIN, "begin belongs on the first record, and only there")
    if header.begin is not None:
        _check_begin(header.begin)
        last = (header.end is not None) == (header.begin.chunks == 1)
        _require(last, Reason.MALFORMED_END, "end belongs on the last record, and only there")
    if header.end is not None:
        _check_end(header.end, header)


def _check_begin(begin: Begin) -> None:
    counts = (begin.generation, begin.size, begin.mode, begin.chunk_size, begin.chunks)
    _require_all(
        Reason.MALFORMED_BEGIN,
        (min(counts) >= 0, "a negative number"),
        (max(counts) < _INT_LIMIT, "a number is out of range"),
        (-_INT_LIMIT <= begin.mtime_ns < _INT_LIMIT, "mtime_ns is out of range"),
        (len(begin.instance) == INSTANCE_SIZE, "instance is not 16 bytes"),
        (is_origin(begin.origin), "origin is not a valid name"),
        (is_topic(begin.topic), "topic is not a valid name"),
        (begin.chunk_size.bit_count() == 1, "chunk_size is no power of two"),
    )
    counted = chunk_count(begin.size, begin.chunk_size)
    agrees = begin.chunks == counted
    _require(agrees, Reason.MALFORMED_BEGIN, "chunks does not follow from size and chunk_size")
    if begin.meta:
        _check_begin_meta(begin.meta)
    try:
        check_wire_path(begin.path)
    except BadPath as error:
        raise BadRecord(Reason.BAD_PATH, str(error)) from None


def _check_begin_meta(meta: Mapping[str, object]) -> None:
    texts = all(type(value) is str for value in meta.values())
    _require(texts, Reason.MALFORMED_BEGIN, "meta is not of text")
    try:
        check_meta(meta)  # type: ignore[arg-type]  # looked at just above
    except ValueError as error:
        raise BadRecord(Reason.MALFORMED_BEGIN, str(error)) from None


def _check_end(end: End, header: Header) -> None:
    bad = Reason.MALFORMED_END
    _require(len(end.digest) == DIGEST_SIZE, bad, "digest is not 32 bytes")
    _require(0 <= end.size < _INT_LIMIT, bad, "size is out of range")
    _require(end.chunks == header.index + 1, bad, "chunks does not follow from index")
    agrees = header.begin is None or end.size == header.begin.size
    _require(agrees, bad, "size is not that of begin")


def _read_array(data: bytes) -> list[Any]:
    common = _read_middle(data) if data.endswith(b"\xc0\xc0") else _read_first(data)
    if common is not None:
        return common
    reader = _Reader(data)
    try:
        value = reader.value()
    except (ValueError, IndexError, OutOfData) as error:  # msgpack's others are ValueErrors
        raise BadRecord(Reason.MALFORMED, type(error).__name__) from None
    if type(value) is not list or not value or not reader.exhausted:
        raise BadRecord(Reason.MALFORMED, "not one array")
    return value


def _read_middle(data: bytes) -> list[Any] | None:
    """Most records have neither begin nor end: these in one call, None if it is no such one."""
    try:
        value = unpackb(data, max_array_len=len(_MIDDLE_TYPES), max_map_len=0)
    except ValueError:
        return None
    return value if type(value) is list and [*map(type, value)] == _MIDDLE_TYPES else None


def _read_first(data: bytes) -> list[Any] | None:
    """A record with a begin, as kfd writes it: its keys in order. None if it is any other one."""
    reader = Unpacker(
        max_buffer_size=MAX_HEADER, max_array_len=0, max_map_len=0, max_ext_len=0
    )  # scalars only: containers are entered by their headers
    reader.feed(data)
    try:
        if reader.read_array_header() != 6:
            return None
        head = [reader.unpack() for _ in range(4)]
        begin = _read_known(reader, _BEGIN_TYPES)
        end = None
        if data[reader.tell()] == _NIL:
            reader.skip()
        else:
            end = _read_known(reader, _END_TYPES)
        whole = reader.tell() == len(data)
    except (ValueError, IndexError, OutOfData):
        return None
    return [*head, begin, end] if whole else None


def _read_known(reader: Unpacker, types: Mapping[str, type]) -> dict[str, object]:
    """A map of exactly these keys in this order; ValueError if it is another one."""
    if reader.read_map_header() != len(types):
        raise ValueError
    result: dict[str, object] = {}
    for name, kind in types.items():
        if reader.unpack() != name:
            raise ValueError
        result[name] = _read_texts(reader) if kind is dict else reader.unpack()
    return result


def _read_texts(reader: Unpacker) -> dict[str, object]:
    count = reader.read_map_header()
    result = {reader.unpack(): reader.unpack() for _ in range(count)}
    if len(result) != count or any(type(key) is not str for key in result):
        raise ValueError
    return result


_NIL: Final = 0xC0
_MIDDLE_TYPES: Final = [int, bytes, int, int, type(None), type(None)]

# What a value is by its first byte: s scalar, a array, m map, x of an ext type or nothing at all.
_KINDS: Final = (
    "s" * 0x80 + "m" * 0x10 + "a" * 0x10 + "s" * 0x20  # fixint, fixmap, fixarray, fixstr
    + "sxss" + "sss" + "xxx" + "ss"  # C0: nil, never used, booleans; bin; ext; floats
    + "ssssssss" + "xxxxx" + "sss" + "aa" + "mm"  # CC: integers; fixext; str; array; map
    + "s" * 0x20  # negative fixint
)  # fmt: skip


class _Reader:
    """Reads one msgpack value strictly: no ext types, no duplicate keys, little nesting.

    Containers are read item by item: their lengths, which are claims, are only counted to, and
    the keys of maps are not interned, which some Pythons never undo, as they are by ``unpackb``.
    """

    __slots__ = ("_data", "_tell", "_unpack", "_unpacker")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._unpacker = Unpacker(max_buffer_size=MAX_HEADER)
        self._unpacker.feed(data)
        self._unpack = self._unpacker.unpack
        self._tell = self._unpacker.tell

    @property
    def exhausted(self) -> bool:
        return bool(self._tell() == len(self._data))

    def value(self, depth: int = 0) -> object:
        kind = _KINDS[self._data[self._tell()]]
        if kind == "s":
            return self._unpack()
        if kind == "x" or depth == _MAX_NESTING:
            raise ValueError("an ext type, or nested too deeply")
        return self._array(depth + 1) if kind == "a" else self._map(depth + 1)

    def _array(self, depth: int) -> list[object]:
        return [self.value(depth) for _ in range(self._unpacker.read_array_header())]

    def _map(self, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        for _ in range(self._unpacker.read_map_header()):
            key = self.value(depth)
            if type(key) is not str or key in result:
                raise ValueError("a key is not text or comes twice")
            result[key] = self.value(depth)
        return result


def pack(value: object) -> bytes:
    """msgpack of plain values, for what kfd writes beside chunks."""
    packed: bytes = packb(value)
    return packed


def unpack(data: bytes, *, longest: int, text: int) -> object:
    """What :func:`pack` made of scalars and lists; maps and ext types are refused.

    ``longest``: of a list, in items; ``text``: of a string, in bytes. Raises :class:`ValueError`.
    """
    return unpackb(
        data,
        max_array_len=longest,
        max_map_len=0,
        max_ext_len=0,
        max_str_len=text,
        max_bin_len=text,
    )
