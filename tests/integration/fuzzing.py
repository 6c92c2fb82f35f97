"""Shots at the control socket, right requests and what becomes of them by chance: by a seed.

A request is made of the types in ``kfd.control``, so that a new method is fuzzed without a word
here; then some of its values are made wrong ones, and some of its bytes.
"""

from __future__ import annotations

import dataclasses
import json
import random
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from kfd.control import MAX_META, METHODS, File
from kfd.daemon.methods import TAKE_DESCRIPTORS
from kfd.varlink import MAX_DEPTH, MAX_REQUEST, SERVICE

LONGEST = MAX_REQUEST + 4096  # bytes of a frame
KNOWN_TIDS = 64  # so many that were heard of last are asked for
DESCRIPTORS = 9  # kinds of descriptors that may be passed

WRONG: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 253, 1 << 31, 1 << 63, -(1 << 63), 1 << 70, 0.5, 1e308, -0.0),
    *("", "x", "\0", "/", "/etc/shadow", "../..", "\ud800", "é" * 300, "a" * 5000, "queued"),
    *("in_kafka", "out", "*", "9f2c41d7", "0" * 32, "L2V0Yy9zaGFkb3c=", "%s%n", "\x1b[2J\n"),
    *([], {}, [None], [[]], {"descriptor": 0}, [{"descriptor": 0}], [{"source": "/etc/passwd"}]),
)  # fmt: skip
NAMES = (
    *("run.trc", "1", "2", "3", "4", "b/5", "b/6", "b/7", "b/c/8", "9 %s", "-", "'", "*"),
    *( "a/b/c", "é", ".kfd", ".kfd/x", "a/.kfd", "..", "a/../b", "/a", "a//b", "a/"),
    *("a" * 256, "/".join("a" * 33), "a\nb", "a\x1b[2J", "x" * 1025, "", "\0", "~", "a" * 255),
)  # fmt: skip
SOURCES = (
    *("/etc/hostname", "/etc/shadow", "/nowhere/x", "/", "//", "relative", "/proc/self/mem"),
    *("/proc/self/fd/0", "/" + "a/" * 2100, "/dev/stdin", "/etc/../etc/hostname", "/tmp/\0"),
)  # fmt: skip
ENCODED = ("cnVuLnRyYw==", "/+8=", "Li4vLi4=", "LmtmZC94", "AA==", "====", "cnVu", "é", "")
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u", b"\\ud800", b"\0", b"\xff", b"\xc3"),
    *(b"null", b"true", b"-", b"1e999", b"NaN", b"Infinity", b" " * 100, b"[" * 50, b'{"a":' * 50),
    *(b'"method"', b'"parameters"', b'"more"', b'"oneway"', b'"upgrade":true,', b"\n", b"\x7f"),
    *(b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\0\0"),
    *(b"9" * 4400, b"\\u0000", b"0" * 40, b"1e", b"0x1", b"'", b"/*", b"\xf0\x9f"),
)  # fmt: skip


@dataclasses.dataclass(slots=True)
class Shot:
    """What is sent in one go, or in ``pieces`` one after the other; descriptors of these kinds go
    along with the piece ``at``. It may hold NULs, and so be several frames."""

    method: str
    pieces: list[bytes]
    passed: Sequence[int] = ()
    at: int = 0


class Shots:
    """Without end. As an ``owner`` everything is asked for that doesn't end the daemon."""

    def __init__(self, seed: int, file: str, *, owner: bool) -> None:
        """``file`` is the path of one that may be sent."""
        self.tids: list[str] = ["9f2c41d7"]  # may be added to
        self._rng = random.Random(seed)
        names = [name for name in METHODS if not (owner and name == "Quit")]
        shares = {"Doctor": 4, "Reload": 20, "Send": 1000}  # the first two take long
        self._methods = [name for name in names for _ in range(shares.get(name, 200))]
        self._sources = (*SOURCES, file, file, file)
        self._called = ""  # by the shot that is being made
        self._passed: list[int] = []  # with it

    def __iter__(self) -> Iterator[Shot]:
        rng = self._rng
        while True:
            method = rng.choice(self._methods)
            self._called = method
            self._passed = self._descriptors(method)
            if rng.random() < 0.05:
                frame = rng.choice(_EXTREMES)(rng)
            else:
                frame = self._encoded(self._message(method))
            for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 5))):
                frame = rng.choice(_MUTATIONS)(rng, frame)
            yield self._shot(self._called, frame[:LONGEST] + b"\0")

    def _shot(self, method: str, frame: bytes) -> Shot:
        rng = self._rng
        cuts = rng.choice((0,) * 15 + (1, 2, 5))
        at = sorted({rng.randrange(len(frame)) for _ in range(cuts)} - {0})
        ends = [*at, len(frame)]
        pieces = [frame[begin:end] for begin, end in zip([0, *at], ends, strict=True)]
        return Shot(method, pieces, self._passed, rng.randrange(len(pieces)))

    def _descriptors(self, method: str) -> list[int]:
        rng = self._rng
        likely = f"io.kfd.Control.{method}" in TAKE_DESCRIPTORS
        count = rng.choice((0, 1, 1, 2, 5) if likely else (0,) * 40 + (1, 2, 253))
        return [rng.randrange(DESCRIPTORS) for _ in range(count)]

    def _encoded(self, message: object) -> bytes:
        """JSON with any of the ways to write it."""
        rng = self._rng
        style = rng.random()
        text = json.dumps(message, ensure_ascii=style < 0.8, indent=1 if style > 0.95 else None)
        return text.encode("utf-8", "surrogatepass")

    def _message(self, method: str) -> object:
        rng = self._rng
        if rng.random() < 0.01:
            return rng.choice(WRONG)
        name = f"io.kfd.Control.{method}"
        if rng.random() < 0.03:
            name = str(rng.choice((*WRONG, f"{SERVICE}.Nothing", "io.kfd.Other.Send", ".", method)))
        message: dict[str, object] = {"method": name}
        if rng.random() < 0.05:
            member = rng.choice(("GetInfo", "GetInterfaceDescription"))
            interface = rng.choice((SERVICE, "io.kfd.Control", *WRONG))
            message = {"method": f"{SERVICE}.{member}", "parameters": {"interface": interface}}
            self._called = member
        elif rng.random() < 0.97:
            message["parameters"] = self._parameters(method)
        for flag in ("more", "oneway", "upgrade"):
            if rng.random() < (0.15 if flag == "more" else 0.02):
                message[flag] = rng.choice((True, True, True, False, None, 1, "true"))
        if rng.random() < 0.02:
            message[str(rng.choice(WRONG))] = rng.choice(WRONG)
        return message

    def _parameters(self, method: str) -> object:
        rng = self._rng
        if rng.random() < 0.01:
            return rng.choice(WRONG)
        chosen = self._object(METHODS[method][0])
        if rng.random() < 0.03:
            chosen[str(rng.choice(WRONG))] = rng.choice(WRONG)
        return chosen

    def _object(self, cls: type) -> dict[str, object]:
        """Most fields that must be there, some of those that may."""
        rng = self._rng
        hints = get_type_hints(cls)
        optional = {name for name, hint in hints.items() if type(None) in get_args(hint)}
        chosen = {}
        for name, hint in hints.items():
            if rng.random() < (0.3 if name in optional else 0.97):
                wrong = rng.random() < 0.06
                chosen[name] = rng.choice(WRONG) if wrong else self._value(name, hint)
        return chosen

    def _value(self, name: str, hint: Any) -> object:
        rng, origin = self._rng, get_origin(hint)
        if origin is types.UnionType:
            return self._value(name, get_args(hint)[0])
        if origin is not None and issubclass(origin, Mapping):
            return {self._text("key"): self._text("value") for _ in range(rng.randrange(4))}
        if name == "files" and rng.random() < 0.9:
            return [self._object(File) | {"descriptor": at} for at in range(len(self._passed))]
        if origin is not None and issubclass(origin, Sequence):
            count = rng.choice((0, 1, 1, 1, 2, 3, 10))
            return [self._value(name, get_args(hint)[0]) for _ in range(count)]
        if dataclasses.is_dataclass(hint):
            return self._object(hint)
        return self._scalar(name, hint)

    def _scalar(self, name: str, hint: Any) -> object:
        rng = self._rng
        if hint is bool:
            return rng.random() < 0.5
        if hint is int:
            many = rng.random() < 0.01  # they take long, too
            return 10_000 if many else rng.choice((0, 0, 0, 1, 1, 2, 3, 5, 50, 1 << 62))
        if hint is float:
            return rng.choice((0, 0.5, 1.7e9, 1e300, 3))
        if issubclass(hint, StrEnum):
            return rng.choice(list(hint)).value
        return self._text(name)

    def _text(self, name: str) -> str:
        rng = self._rng
        if name in ("tid", "tids"):
            tid = rng.choice(self.tids[-KNOWN_TIDS:])
            return tid[-8:] if rng.random() < 0.3 else tid
        if name.endswith("_base64"):
            return rng.choice(ENCODED)
        choices: dict[str, Sequence[str]] = {
            "route": (*["out"] * 9, "closed", "in", "nope"),
            "topic": (*["fuzzed"] * 9, "other", "a b", "x" * 250),
            "state": ("failed", "queued", "cancelled", "in_kafka", "published", "no"),
            "name": NAMES,
            "fallback": NAMES,
            "source": self._sources,
        }
        return rng.choice(choices.get(name, ("sample", "42", "", "é", "x" * 200)))


def _flip(rng: random.Random, frame: bytes) -> bytes:
    at = rng.randrange(len(frame) + 1)
    return frame[:at] + bytes([rng.randrange(256)]) + frame[at + 1 :]


def _insert(rng: random.Random, frame: bytes) -> bytes:
    at = rng.randrange(len(frame) + 1)
    return frame[:at] + rng.choice(TOKENS) * rng.choice((1, 1, 2, 20)) + frame[at:]


def _cut(rng: random.Random, frame: bytes) -> bytes:
    begin, end = sorted(rng.randrange(len(frame) + 1) for _ in range(2))
    return frame[:begin] + frame[end:]


def _repeat(rng: random.Random, frame: bytes) -> bytes:
    begin, end = sorted(rng.randrange(len(frame) + 1) for _ in range(2))
    return frame[:end] + frame[begin:]


_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (_flip, _insert, _cut, _repeat)


def _call(method: str, parameters: str) -> bytes:
    return f'{{"method":"io.kfd.Control.{method}","parameters":{parameters}}}'.encode()


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice((MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, 100, 10_000))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    return _call("List", f'{{"limit":3,"state":{opened * depth}1{closed * depth}}}')


def _long(rng: random.Random) -> bytes:
    """About as long as a frame may be."""
    frame = _call("GetStatus", "{}")
    return frame.ljust(MAX_REQUEST + rng.randrange(-3, 3), rng.choice((b" ", b"\n")))


def _number(rng: random.Random) -> bytes:
    digits = rng.choice((20, 309, 4299, 4301, 60_000))
    sign = rng.choice(("", "-", "0.", "1e", "1e-"))
    return _call("List", f'{{"limit":{sign}{"9" * digits}}}')


def _not_text(rng: random.Random) -> bytes:
    bad = rng.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"))
    return _call("List", '{"limit":3,"route":"?"}').replace(b"?", bad)


_OTHER_ENCODINGS = tuple(
    _call("GetStatus", "{}").decode().encode(name)
    for name in ("utf-16", "utf-8-sig", "utf-32-le", "utf-16-be")
)


def _other_encoding(rng: random.Random) -> bytes:
    return rng.choice(_OTHER_ENCODINGS)


def _twice(_: random.Random) -> bytes:
    """The same key: the last one counts."""
    return b'{"method":"io.kfd.Control.Quit","method":"io.kfd.Control.GetStatus"}'


def _much_meta(rng: random.Random) -> bytes:
    size = MAX_META + rng.randrange(-2, 2)
    meta = rng.choice(({"k": "v" * (size - 1)}, {str(n): "" for n in range(size // 4)}))
    return _call("Send", json.dumps({"files": [{"descriptor": 0}], "meta": meta}))


def _many(rng: random.Random) -> bytes:
    count = rng.choice((252, 253, 254, 1500))
    files = [{"descriptor": at, "name": str(at)} for at in range(count)]
    return rng.choice(
        (
            _call("Send", json.dumps({"files": files, "route": "out"})),
            _call("Wait", json.dumps({"tids": ["9f2c41d7"] * count, "until": "queued"})),
        )
    )


def _nothing(rng: random.Random) -> bytes:
    return rng.choice((b"", b"\0" * 10, b" ", b"{}", b"[]", b"null", b'""', b"\0{}\0"))


_EXTREMES: tuple[Callable[[random.Random], bytes], ...] = (
    *(_deep, _long, _number, _not_text, _other_encoding, _twice, _much_meta, _many, _nothing),
)  # fmt: skip
