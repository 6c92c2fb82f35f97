"""Frames, calls and replies: hostile ones are refused, cheaply."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.varlink import (
    MAX_DEPTH,
    Call,
    FrameReader,
    ProtocolError,
    Reply,
    VarlinkError,
    decode,
    decode_call,
    decode_reply,
    encode,
    encode_call,
    encode_error,
    encode_reply,
)
from tests.strategies import json_values, texts


@given(
    st.lists(st.binary(max_size=30).filter(lambda frame: b"\0" not in frame), max_size=8),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_frames_come_out_however_the_stream_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame + b"\0" for frame in frames)
    places = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    reader = FrameReader(64)
    got = []
    for start, end in zip(places, [*places[1:], len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert got == frames
    assert not reader.begun


def test_a_frame_has_at_most_the_limit_with_its_nul() -> None:
    assert FrameReader(8).feed(b"1234567\0") == [b"1234567"]
    for stream in (b"12345678\0", b"12345678", b"a\0" + b"12345678"):
        with pytest.raises(ProtocolError):
            FrameReader(8).feed(stream)


def test_an_endless_frame_is_refused_as_it_grows() -> None:
    reader = FrameReader(1000)
    for _ in range(99):
        reader.feed(b"x" * 10)
    with pytest.raises(ProtocolError):
        reader.feed(b"x" * 10)


@given(texts, st.dictionaries(texts, st.integers() | texts), st.booleans(), st.booleans())
def test_calls_survive(method: str, parameters: dict[str, Any], more: bool, oneway: bool) -> None:
    call = Call(method, parameters, more, oneway and not more)
    (frame,) = FrameReader(1 << 20).feed(encode_call(call))
    assert decode_call(frame) == call


@given(st.dictionaries(texts, texts), st.booleans())
def test_replies_survive(parameters: dict[str, str], continues: bool) -> None:
    reply = Reply(parameters, continues)
    assert decode_reply(encode_reply(reply)[:-1]) == reply


def test_an_error_reply_is_raised() -> None:
    with pytest.raises(VarlinkError) as caught:
        decode_reply(encode_error(VarlinkError("a.B", {"c": 1}))[:-1])
    assert (caught.value.name, caught.value.parameters) == ("a.B", {"c": 1})


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_protocol_error(frame: bytes) -> None:
    _try(frame)


@given(json_values)
def test_no_json_raises_anything_but_a_protocol_error(value: Any) -> None:
    _try(json.dumps(value).encode())


def _try(frame: bytes) -> None:
    for read in (decode_call, decode_reply):
        with suppress(ProtocolError, VarlinkError):
            read(frame)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_depth_is_bounded() -> None:
    assert decode(nested(MAX_DEPTH))
    with pytest.raises(ProtocolError, match="deeper"):
        decode(nested(MAX_DEPTH + 1))
    assert decode(b'{"a":"' + b"[" * 50 + b'\\""}')


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(piece * (65536 // len(piece)), id=repr(piece))
        for piece in (b'\\"', b'"\\', b'"', b"[", b"{", b'"a', b'[{"', b"1", b"\\")
    ],
)
def test_a_hostile_frame_costs_one_pass(frame: bytes) -> None:
    """Quadratic work on any of these takes minutes."""
    with pytest.raises(ProtocolError):
        decode_call(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"method":1}',
        b'{"method":"a.B","parameters":[]}',
        b'{"method":"a.B","more":1}',
        b'{"method":"a.B","more":true,"oneway":true}',
        b'{"method":"a.B","upgrade":true}',
        b'{"method":"a.B","extra":1}',
        b'{"method":"a.B","parameters":{"x":NaN}}',
        b'{"method":"a.B","parameters":{"x":-Infinity}}',
        b'{"method":"\xff"}',
        b'{"method":"a.B"} {}',
    ],
)
def test_what_is_no_call_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_call(frame)


def test_what_is_not_json_is_not_sent() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        encode({"a": float("nan")})
