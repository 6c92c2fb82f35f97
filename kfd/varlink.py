"""The varlink protocol: NUL-terminated JSON objects over a stream, without the stream.

Shared by the daemon's server and kfdctl. Nothing here blocks or does I/O. What a peer sends is
bounded before it is parsed: the frame's size by :class:`FrameReader`, the depth by :func:`decode`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SERVICE = "org.varlink.service"
METHOD_NOT_FOUND = f"{SERVICE}.MethodNotFound"
INTERFACE_NOT_FOUND = f"{SERVICE}.InterfaceNotFound"
INVALID_PARAMETER = f"{SERVICE}.InvalidParameter"

MAX_REQUEST = 64 * 1024  # bytes of a frame from a client, its NUL included
MAX_REPLY = 64 * 1024 * 1024  # bytes of a frame from the daemon
MAX_DEPTH = 16

# Possessive, and content with a string that doesn't end: one pass over whatever comes.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_CALL_KEYS = frozenset({"method", "parameters", "more", "oneway", "upgrade"})


class ProtocolError(Exception):
    """The peer does not speak varlink, or says too much; the connection is of no more use."""


class VarlinkError(Exception):
    """An error reply: its full name, and its parameters."""

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = parameters


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``more`` asks for a stream of replies, ``oneway`` for none."""

    method: str
    parameters: Mapping[str, Any]
    more: bool = False
    oneway: bool = False

    @property
    def interface(self) -> str:
        return self.method.rpartition(".")[0]

    @property
    def member(self) -> str:
        return self.method.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no error. ``continues`` promises another."""

    parameters: Mapping[str, Any]
    continues: bool = False


class FrameReader:
    """Cuts a stream of bytes at its NULs; of an unfinished frame it holds at most ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()

    @property
    def begun(self) -> bool:
        """True while part of a frame has come, but not its end."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, without their NULs, or :class:`ProtocolError`."""
        *ended, rest = data.split(b"\0")
        if ended:
            ended[0] = bytes(self._rest) + ended[0]
            self._rest.clear()
        self._rest += rest
        if any(len(frame) >= self._limit for frame in (*ended, self._rest)):
            raise ProtocolError(f"a message is longer than {self._limit} bytes")
        return ended


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of a JSON object, its NUL included."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\0"


def encode_call(call: Call) -> bytes:
    flags = {"more": call.more, "oneway": call.oneway}
    return encode(
        {"method": call.method, "parameters": call.parameters}
        | {name: True for name, on in flags.items() if on}
    )


def encode_reply(reply: Reply) -> bytes:
    continues = {"continues": True} if reply.continues else {}
    return encode({"parameters": reply.parameters} | continues)


def encode_error(error: VarlinkError) -> bytes:
    return encode({"error": error.name, "parameters": error.parameters})


def decode(frame: bytes) -> dict[str, Any]:
    """The JSON object in a frame, or :class:`ProtocolError`; no bytes raise anything else."""
    _check_depth(frame)
    try:
        message = json.loads(frame.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message is not a JSON object")
    return message


def decode_call(frame: bytes) -> Call:
    """The request in a frame; ProtocolError if it is none."""
    message = decode(frame)
    if message.keys() - _CALL_KEYS:
        raise ProtocolError(f"a call has no {min(message.keys() - _CALL_KEYS)!r}")
    if not isinstance(message.get("method"), str):
        raise ProtocolError("a call without a method")
    if _flag(message, "upgrade"):
        raise ProtocolError("upgrade is not possible here")
    call = Call(
        message["method"], _parameters(message), _flag(message, "more"), _flag(message, "oneway")
    )
    if call.more and call.oneway:
        raise ProtocolError("a call wants more replies and none")
    return call


def decode_reply(frame: bytes) -> Reply:
    """The answer in a frame; raises :class:`VarlinkError` if it is an error."""
    message = decode(frame)
    if isinstance(message.get("error"), str):
        raise VarlinkError(message["error"], _parameters(message))
    return Reply(_parameters(message), _flag(message, "continues"))


def invalid_parameter(name: str) -> VarlinkError:
    return VarlinkError(INVALID_PARAMETER, {"parameter": name})


def _parameters(message: Mapping[str, Any]) -> dict[str, Any]:
    parameters = message.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise ProtocolError("parameters are not a JSON object")
    return parameters


def _flag(message: Mapping[str, Any], name: str) -> bool:
    value = message.get(name)
    if value is not None and not isinstance(value, bool):
        raise ProtocolError(f"{name!r} is neither true nor false")
    return bool(value)


def _check_depth(frame: bytes) -> None:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(frame):
        token = match[0]
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise ProtocolError(f"a message is nested deeper than {MAX_DEPTH}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
