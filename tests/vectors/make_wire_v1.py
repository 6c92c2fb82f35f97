"""Writes wire-v1.json: headers put together by hand, byte by byte, from docs/wire-format.md.

It imports neither kfd nor msgpack on purpose; the digests are what ``b3sum`` printed.
"""

from __future__ import annotations

import json
import struct
import sys

TID = bytes.fromhex("0190a1b2c3d4") + b"0123456789"
INSTANCE = bytes(range(16))
DIGEST_EMPTY = bytes.fromhex("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")
DIGEST_TEN = bytes.fromhex("d10c2acb518fd74ae130f63e3a452a9a055471164181a63a7d94c182f570349b")

NIL, FALSE, TRUE = b"\xc0", b"\xc2", b"\xc3"
EXT = b"\xd4\x05\x00"
TIMESTAMP = b"\xd6\xff\x00\x00\x00\x00"


def uint(number: int) -> bytes:
    for limit, lead, code in ((2**7, "", "B"), (2**8, "cc", "B"), (2**16, "cd", "H")):
        if number < limit:
            return bytes.fromhex(lead) + struct.pack(">" + code, number)
    if number < 2**32:
        return b"\xce" + struct.pack(">I", number)
    return b"\xcf" + struct.pack(">Q", number)


def sint(number: int) -> bytes:
    return b"\xd3" + struct.pack(">q", number)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) < 32:
        return bytes([0xA0 | len(raw)]) + raw
    if len(raw) < 2**8:
        return b"\xd9" + struct.pack(">B", len(raw)) + raw
    return b"\xda" + struct.pack(">H", len(raw)) + raw


def binary(value: bytes) -> bytes:
    if len(value) < 2**8:
        return b"\xc4" + struct.pack(">B", len(value)) + value
    return b"\xc5" + struct.pack(">H", len(value)) + value


def array(*items: bytes) -> bytes:
    return bytes([0x90 | len(items)]) + b"".join(items)


def table(fields: dict[str, bytes], extra: bytes = b"", extras: int = 0) -> bytes:
    """A map; ``extra`` is the bytes of ``extras`` more entries."""
    count = len(fields) + extras
    lead = bytes([0x80 | count]) if count < 16 else b"\xde" + struct.pack(">H", count)
    return lead + b"".join(text(key) + value for key, value in fields.items()) + extra


def begin_fields(**changes: bytes | None) -> dict[str, bytes]:
    fields: dict[str, bytes | None] = {
        "path": binary(b"run/42.trc"),
        "topic": text("lecroy_files"),
        "origin": text("scope3"),
        "instance": binary(INSTANCE),
        "generation": uint(1_720_000_000_000_000),
        "size": uint(10),
        "mtime_ns": uint(1_719_999_999_123_456_789),
        "mode": uint(0o640),
        "chunk_size": uint(4),
        "chunks": uint(3),
        "meta": table({}),
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not None}


def begin(**changes: bytes | None) -> bytes:
    return table(begin_fields(**changes))


def end(**changes: bytes | None) -> bytes:
    fields: dict[str, bytes | None] = {
        "size": uint(10),
        "chunks": uint(3),
        "digest": binary(DIGEST_TEN),
    }
    fields.update(changes)
    return table({key: value for key, value in fields.items() if value is not None})


def header(
    first: bytes = NIL,
    last: bytes = NIL,
    *,
    version: bytes = uint(1),
    tid: bytes = binary(TID),
    index: bytes = uint(0),
    flags: bytes = uint(0),
) -> bytes:
    return array(version, tid, index, flags, first, last)


def meaning(**changes: object) -> dict[str, object]:
    """The begin of ``begin_fields`` as JSON; bytes in hex."""
    return {
        "path": b"run/42.trc".hex(),
        "topic": "lecroy_files",
        "origin": "scope3",
        "instance": INSTANCE.hex(),
        "generation": 1_720_000_000_000_000,
        "size": 10,
        "mtime_ns": 1_719_999_999_123_456_789,
        "mode": 0o640,
        "chunk_size": 4,
        "chunks": 3,
        "meta": {},
    } | changes


END = {"size": 10, "chunks": 3, "digest": DIGEST_TEN.hex()}
EMPTY = {"size": uint(0), "chunks": uint(1)}
END_EMPTY = {"size": 0, "chunks": 1, "digest": DIGEST_EMPTY.hex()}
DEEP = b"\x91" * 40 + NIL
MANY = {f"future{number}": uint(number) for number in range(6)}

ACCEPTED = {
    "first of three": (header(begin()), 0, 0, meaning(), None),
    "middle of three": (header(index=uint(1)), 1, 0, None, None),
    "last of three": (header(NIL, end(), index=uint(2)), 2, 0, None, END),
    "an empty file": (
        header(begin(**EMPTY), end(**EMPTY, digest=binary(DIGEST_EMPTY))),
        0,
        0,
        meaning(size=0, chunks=1),
        END_EMPTY,
    ),
    "a large index": (header(index=uint(2**63 - 1)), 2**63 - 1, 0, None, None),
    "an index in more bytes than it needs": (header(index=b"\xce\0\0\0\x01"), 1, 0, None, None),
    "an abort": (header(index=uint(5), flags=uint(2)), 5, 2, None, None),
    "an abort of what was not begun": (header(flags=uint(2)), 0, 2, None, None),
    "a time before 1970": (header(begin(mtime_ns=sint(-1))), 0, 0, meaning(mtime_ns=-1), None),
    "the earliest time": (
        header(begin(mtime_ns=sint(-(2**63)))),
        0,
        0,
        meaning(mtime_ns=-(2**63)),
        None,
    ),
    "a path that is not UTF-8": (
        header(begin(path=binary(b"\xff\n;rm"))),
        0,
        0,
        meaning(path=b"\xff\n;rm".hex()),
        None,
    ),
    "the longest path": (
        header(begin(path=binary(b"/".join([b"n" * 204] * 5)))),
        0,
        0,
        meaning(path=b"/".join([b"n" * 204] * 5).hex()),
        None,
    ),
    "the deepest path": (
        header(begin(path=binary(b"/".join([b"d"] * 32)))),
        0,
        0,
        meaning(path=b"/".join([b"d"] * 32).hex()),
        None,
    ),
    "kfd's directory further down": (
        header(begin(path=binary(b"a/.kfd"))),
        0,
        0,
        meaning(path=b"a/.kfd".hex()),
        None,
    ),
    "meta": (
        header(begin(meta=table({"run": text("42"), "Größe": text("")}))),
        0,
        0,
        meaning(meta={"run": "42", "Größe": ""}),
        None,
    ),
    "as much meta as there may be": (
        header(begin(meta=table({"k": text("v" * 4095)}))),
        0,
        0,
        meaning(meta={"k": "v" * 4095}),
        None,
    ),
    "unknown keys, more than a short map has": (
        header(table(begin_fields() | MANY)),
        0,
        0,
        meaning(),
        None,
    ),
    "unknown keys with containers": (
        header(table(begin_fields(x=array(table({"y": array()}), TRUE, b"\xca\0\0\0\0")))),
        0,
        0,
        meaning(),
        None,
    ),
    "an unknown key in end": (header(NIL, end(x=NIL), index=uint(2)), 2, 0, None, END),
    "a chunk size of one byte": (
        header(begin(chunk_size=uint(1), chunks=uint(10))),
        0,
        0,
        meaning(chunk_size=1, chunks=10),
        None,
    ),
    "exactly n chunks": (
        header(begin(size=uint(8), chunks=uint(2))),
        0,
        0,
        meaning(size=8, chunks=2),
        None,
    ),
}

BEGIN = "malformed-begin"
LAST = "malformed-end"
REFUSED = {
    "nothing": (b"", "malformed"),
    "not msgpack": (b"\xc1", "malformed"),
    "text": (text("kfd"), "malformed"),
    "a map": (table({}), "malformed"),
    "an empty array": (array(), "malformed"),
    "cut short": (header(begin())[:-1], "malformed"),
    "cut in the middle": (header(index=uint(1))[:20], "malformed"),
    "bytes after it": (header(begin()) + NIL, "malformed"),
    "bytes after a middle one": (header(index=uint(1)) + NIL, "malformed"),
    "five items": (array(uint(1), binary(TID), uint(1), uint(0), NIL), "malformed"),
    "seven items": (
        array(uint(1), binary(TID), uint(1), uint(0), NIL, NIL, NIL), "malformed"
    ),
    "an array that claims 4 G items": (b"\xdd\xff\xff\xff\xff" + uint(1), "malformed"),
    "a map that claims 4 G keys": (header(b"\xdf\xff\xff\xff\xff"), "malformed"),
    "bin that claims 4 GiB": (header(tid=b"\xc6\xff\xff\xff\xff"), "malformed"),
    "text that claims 4 GiB": (header(tid=b"\xdb\xff\xff\xff\xff"), "malformed"),
    "one byte too long": (header(begin(x=binary(bytes(16_384)))), "malformed"),
    "version 2": (header(version=uint(2)), "unsupported"),
    "version 2 of another shape": (array(uint(2), table({"new": NIL})), "unsupported"),
    "version 2 with an ext type": (array(uint(2), EXT, NIL, NIL), "malformed"),
    "version 0": (header(version=uint(0), index=uint(1)), "unsupported"),
    "version true": (header(version=TRUE, index=uint(1)), "malformed"),
    "version 1.0": (header(version=b"\xca\x3f\x80\0\0", index=uint(1)), "malformed"),
    "version 2, cut short": (header(version=uint(2))[:-1], "malformed"),
    "a tid of text": (header(tid=text(b"t" * 16), index=uint(1)), "malformed"),
    "a tid of 15 bytes": (header(tid=binary(TID[1:]), index=uint(1)), "malformed"),
    "a tid of 17 bytes": (header(tid=binary(TID + b"x"), index=uint(1)), "malformed"),
    "an index of true": (header(index=TRUE), "malformed"),
    "an index of 1.0": (header(index=b"\xca\x3f\x80\0\0"), "malformed"),
    "an index below zero": (header(index=b"\xff"), "malformed"),
    "an index of 2^63": (header(index=uint(2**63)), "malformed"),
    "an index of ext type": (header(index=EXT), "malformed"),
    "flags of nil": (header(index=uint(1), flags=NIL), "malformed"),
    "flags of true": (header(index=uint(1), flags=TRUE), "malformed"),
    "an unknown flag": (header(index=uint(1), flags=uint(4)), "unsupported"),
    "negative flags": (header(index=uint(1), flags=b"\xfe"), "unsupported"),
    "sealed": (header(binary(b"b" * 300), flags=uint(1)), "sealed"),
    "a sealed abort": (header(NIL, binary(b"e" * 65), index=uint(1), flags=uint(3)), "sealed"),
    "an abort with begin": (header(begin(), flags=uint(2)), "malformed"),
    "an abort with end": (header(NIL, end(), index=uint(2), flags=uint(2)), "malformed"),
    "no begin on the first": (header(), BEGIN),
    "begin on the second": (header(begin(), index=uint(1)), BEGIN),
    "begin of true": (header(TRUE), BEGIN),
    "begin of false": (header(FALSE), BEGIN),
    "begin of an array": (header(array()), BEGIN),
    "begin of bin": (header(binary(b"")), BEGIN),
    "begin of ext type": (header(EXT), "malformed"),
    "an empty begin": (header(table({})), BEGIN),
    "a key twice": (header(table(begin_fields(), text("size") + uint(10), 1)), "malformed"),
    "an unknown key twice": (
        header(table(begin_fields(x=NIL), text("x") + NIL, 1)), "malformed"
    ),
    "a key twice inside an unknown one": (
        header(begin(x=table({"y": NIL}, text("y") + NIL, 1))), "malformed"
    ),
    "a key of bin": (header(table(begin_fields(), binary(b"x") + NIL, 1)), "malformed"),
    "a key of a number": (header(table(begin_fields(), uint(1) + NIL, 1)), "malformed"),
    "a key of a map": (header(table(begin_fields(), table({}) + NIL, 1)), "malformed"),
    "a key of nil": (header(table(begin_fields(), NIL + NIL, 1)), "malformed"),
    "a key that is not UTF-8": (
        header(table(begin_fields(), text(b"\xff") + NIL, 1)), "malformed"
    ),
    "an unknown key of ext type": (header(begin(x=EXT)), "malformed"),
    "an unknown key of a timestamp": (header(begin(x=TIMESTAMP)), "malformed"),
    "an unknown key of deep nesting": (header(begin(x=DEEP)), "malformed"),
    "a path of text": (header(begin(path=text("a"))), BEGIN),
    "a topic of bin": (header(begin(topic=binary(b"t"))), BEGIN),
    "a topic of a slash": (header(begin(topic=text("a/b"))), BEGIN),
    "a topic of two dots": (header(begin(topic=text(".."))), BEGIN),
    "a topic of 250 bytes": (header(begin(topic=text("t" * 250))), BEGIN),
    "a topic that is not UTF-8": (header(begin(topic=text(b"\xff"))), "malformed"),
    "an empty origin": (header(begin(origin=text(""))), BEGIN),
    "an origin of two dots": (header(begin(origin=text(".."))), BEGIN),
    "an origin with a slash": (header(begin(origin=text("a/b"))), BEGIN),
    "an origin with a newline": (header(begin(origin=text("a\n"))), BEGIN),
    "an origin of 65 bytes": (header(begin(origin=text("o" * 65))), BEGIN),
    "an instance of 15 bytes": (header(begin(instance=binary(INSTANCE[1:]))), BEGIN),
    "a negative generation": (header(begin(generation=b"\xff")), BEGIN),
    "a generation of 2^63": (header(begin(generation=uint(2**63))), BEGIN),
    "a negative size": (header(begin(size=b"\xff")), BEGIN),
    "a size of 10.0": (header(begin(size=b"\xca\x41\x20\0\0")), BEGIN),
    "a size of nil": (header(begin(size=NIL)), BEGIN),
    "a size of true": (header(begin(size=TRUE, chunks=uint(1))), BEGIN),
    "a size of 2^63": (header(begin(size=uint(2**63), chunks=uint(2**61))), BEGIN),
    "a negative mode": (header(begin(mode=b"\xff")), BEGIN),
    "a time of 2^63": (header(begin(mtime_ns=uint(2**63))), BEGIN),
    "a time of a timestamp": (header(begin(mtime_ns=TIMESTAMP)), "malformed"),
    "a chunk size of zero": (header(begin(chunk_size=uint(0))), BEGIN),
    "a chunk size of three": (header(begin(chunk_size=uint(3), chunks=uint(4))), BEGIN),
    "a chunk too few": (header(begin(chunks=uint(2))), BEGIN),
    "a chunk too many": (header(begin(chunks=uint(4))), BEGIN),
    "an empty file of no chunk": (header(begin(size=uint(0), chunks=uint(0))), BEGIN),
    "meta of nil": (header(begin(meta=NIL)), BEGIN),
    "meta of an array": (header(begin(meta=array())), BEGIN),
    "meta of numbers": (header(begin(meta=table({"k": uint(1)}))), BEGIN),
    "meta of bin": (header(begin(meta=table({"k": binary(b"v")}))), BEGIN),
    "meta with a key of bin": (
        header(begin(meta=b"\x81" + binary(b"k") + text("v"))), "malformed"
    ),
    "meta with a key twice": (
        header(begin(meta=table({"k": text("v")}, text("k") + text("w"), 1))), "malformed"
    ),
    "meta with NUL": (header(begin(meta=table({"k": text("a\0b")}))), BEGIN),
    "meta with NUL in a key": (header(begin(meta=table({"a\0": text("b")}))), BEGIN),
    "meta of 4097 bytes": (header(begin(meta=table({"k": text("v" * 4096)}))), BEGIN),
    "an empty path": (header(begin(path=binary(b""))), "bad-path"),
    "an absolute path": (header(begin(path=binary(b"/etc/passwd"))), "bad-path"),
    "a path that climbs": (header(begin(path=binary(b"../up"))), "bad-path"),
    "a path that climbs later": (header(begin(path=binary(b"a/../../up"))), "bad-path"),
    "a path of a dot": (header(begin(path=binary(b"."))), "bad-path"),
    "a path with an empty component": (header(begin(path=binary(b"a//b"))), "bad-path"),
    "a path that ends with a slash": (header(begin(path=binary(b"a/"))), "bad-path"),
    "a path with NUL": (header(begin(path=binary(b"a\0b"))), "bad-path"),
    "kfd's own directory": (header(begin(path=binary(b".kfd/owner"))), "bad-path"),
    "a name of 256 bytes": (header(begin(path=binary(b"n" * 256))), "bad-path"),
    "a path of 1025 bytes": (
        header(begin(path=binary(b"/".join([b"n" * 204] * 5) + b"x"))), "bad-path"
    ),
    "a path of 33 components": (header(begin(path=binary(b"/".join([b"d"] * 33)))), "bad-path"),
    "a whole file without end": (header(begin(**EMPTY)), LAST),
    "the first of three with end": (header(begin(), end(chunks=uint(1))), LAST),
    "an end that disagrees with begin": (
        header(begin(size=uint(3), chunks=uint(1)), end(size=uint(4), chunks=uint(1))), LAST
    ),
    "end of three at index 1": (header(NIL, end(), index=uint(1)), LAST),
    "end of true": (header(NIL, TRUE, index=uint(2)), LAST),
    "end without digest": (header(NIL, end(digest=None), index=uint(2)), LAST),
    "a digest of 31 bytes": (header(NIL, end(digest=binary(DIGEST_TEN[1:])), index=uint(2)), LAST),
    "a digest in hex": (header(NIL, end(digest=text(DIGEST_TEN.hex())), index=uint(2)), LAST),
    "an end of negative size": (header(NIL, end(size=b"\xff"), index=uint(2)), LAST),
    "an end of 2^63 bytes": (header(NIL, end(size=uint(2**63)), index=uint(2)), LAST),
}  # fmt: skip
REFUSED |= {
    f"no {name} in begin": (header(begin(**{name: None})), BEGIN) for name in begin_fields()
}


def main() -> None:
    accepted = [
        {
            "name": name,
            "header": data.hex(),
            "tid": TID.hex(),
            "index": index,
            "flags": flags,
            "begin": first,
            "end": last,
        }
        for name, (data, index, flags, first, last) in ACCEPTED.items()
    ]
    refused = [
        {"name": name, "header": data.hex(), "reason": reason}
        for name, (data, reason) in REFUSED.items()
    ]
    json.dump({"accepted": accepted, "refused": refused}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
