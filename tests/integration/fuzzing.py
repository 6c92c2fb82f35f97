"""Frames for the control socket, right ones and what becomes of them by chance: by a seed."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator

from kfd.control import METHODS
from kfd.varlink import SERVICE

METHODS_OF_THE_SERVICE = (
    "org.varlink.service.GetInfo",
    "org.varlink.service.GetInterfaceDescription",
)
VALUES: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 253, 1 << 31, 1 << 63, -(1 << 63), 1 << 70, 0.5, 1e308),
    *("", "x", "\0", "/", "/etc/shadow", "../..", "\ud800", "é" * 300, "a" * 5000, "queued"),
    *("in_kafka", "out", "*", "9f2c41d7", "0" * 32, "L2V0Yy9zaGFkb3c=", "%s%n"),
    *([], {}, [None], [[]], {"descriptor": 0}, [{"descriptor": 0}], [{"source": "/etc/passwd"}]),
)  # fmt: skip
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u", b"\\ud800", b"\0", b"\xff", b"\xc3"),
    *(b"null", b"true", b"-", b"1e999", b"NaN", b"Infinity", b" " * 100, b"[" * 50, b'{"a":' * 50),
    *(b'"method"', b'"parameters"', b'"more"', b'"oneway"', b'"upgrade":true,', b"\n", b"\x7f"),
)  # fmt: skip


def frames(seed: int) -> Iterator[bytes]:
    """Without end. A frame may hold NULs, and so be several."""
    rng = random.Random(seed)
    while True:
        frame = json.dumps(_message(rng)).encode()
        for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
            frame = rng.choice(_MUTATIONS)(rng, frame)
        yield frame[:70_000] + b"\0"


def _message(rng: random.Random) -> object:
    if rng.random() < 0.02:
        return rng.choice(VALUES)
    message: dict[str, object] = {"method": _method(rng)}
    if rng.random() < 0.9:
        message["parameters"] = _parameters(rng, str(message["method"]))
    for flag in ("more", "oneway", "upgrade"):
        if rng.random() < 0.02:
            message[flag] = rng.choice((True, True, False, None, 1, "true"))
    if rng.random() < 0.02:
        message[str(rng.choice(VALUES))] = rng.choice(VALUES)
    return message


def _method(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return f"{SERVICE}.{rng.choice(('GetInfo', 'GetInterfaceDescription'))}"
    if rng.random() < 0.03:
        return str(rng.choice(VALUES))
    return f"io.kfd.Control.{rng.choice(tuple(METHODS))}"


def _parameters(rng: random.Random, method: str) -> object:
    """Often of the right names, now and then of the right types."""
    if rng.random() < 0.03:
        return rng.choice(VALUES)
    cls = METHODS.get(method.rpartition(".")[2], (None,))[0]
    names = [one.name for one in dataclasses.fields(cls)] if cls is not None else ["interface"]
    chosen = {name: _value(rng, name) for name in names if rng.random() < 0.8}
    if rng.random() < 0.05:
        chosen[str(rng.choice(VALUES))] = rng.choice(VALUES)
    return chosen


def _value(rng: random.Random, name: str) -> object:
    if rng.random() < 0.4:
        return rng.choice(VALUES)
    if name == "files":
        fields = ("descriptor", "source", "source_base64", "name", "name_base64", "fallback")
        return [
            {field: rng.choice(VALUES) for field in rng.sample(fields, rng.randrange(4))}
            for _ in range(rng.randrange(4))
        ]
    right: dict[str, object] = {
        "tids": ["9f2c41d7"],
        "until": "queued",
        "limit": 3,
        "state": "failed",
        "route": "out",
        "meta": {"k": "v"},
        "dry_run": True,
    }
    return right.get(name, rng.choice(VALUES))


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
