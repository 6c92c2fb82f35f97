"""The header codec: round trips, what it refuses on both ways, and bytes that cannot crash it."""

from __future__ import annotations

import contextlib
import dataclasses
import tracemalloc
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from kfd.paths import BadPath, check_wire_path
from kfd.wire import (
    FLAG_ABORT,
    FLAG_SEALED,
    HEADER_NAME,
    MAX_HEADER,
    MAX_META,
    BadRecord,
    Begin,
    End,
    Header,
    Reason,
    check_meta,
    chunk_count,
    decode_headers,
    encode_header,
    is_origin,
    new_tid,
    next_generation,
    record_key,
)

TID = bytes(range(16))
BEGIN = Begin(
    path=b"run/42.trc",
    topic="lecroy_files",
    origin="scope3",
    instance=bytes(16),
    generation=1,
    size=10,
    mtime_ns=-5,
    mode=0o640,
    chunk_size=4,
    chunks=3,
    meta={"run": "42"},
)
END = End(size=10, chunks=3, digest=bytes(32))


def is_wire_path(path: bytes) -> bool:
    try:
        check_wire_path(path)
    except BadPath:
        return False
    return True


def decode(data: bytes) -> Header:
    return decode_headers([(HEADER_NAME, data)])


def refusal(headers: Any) -> Reason:
    with pytest.raises(BadRecord) as caught:
        decode_headers(headers)
    return caught.value.reason


counts = st.integers(0, 2**63 - 1)
tids = st.binary(min_size=16, max_size=16)
paths = st.binary(min_size=1, max_size=80).filter(is_wire_path)
names = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20)


@st.composite
def begins(draw: st.DrawFn) -> Begin:
    size = draw(counts)
    chunk_size = 2 ** draw(st.integers(0, 62))
    return Begin(
        path=draw(paths),
        topic=draw(st.from_regex(r"\A[a-z][A-Za-z0-9._-]{0,40}\Z")),
        origin=draw(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")),
        instance=draw(st.binary(min_size=16, max_size=16)),
        generation=draw(counts),
        size=size,
        mtime_ns=draw(st.integers(-(2**63), 2**63 - 1)),
        mode=draw(counts),
        chunk_size=chunk_size,
        chunks=chunk_count(size, chunk_size),
        meta=draw(st.dictionaries(names, names, max_size=8)),
    )


@st.composite
def valid_headers(draw: st.DrawFn) -> Header:
    """Any record of any transfer: first, middle, last, only, or an abort."""
    tid, begin = draw(tids), draw(begins())
    if draw(st.booleans()):
        return Header(tid, draw(counts), FLAG_ABORT)
    end = End(begin.size, begin.chunks, draw(st.binary(min_size=32, max_size=32)))
    last = begin.chunks - 1
    index = draw(st.sampled_from([0, last, draw(st.integers(0, last))]))
    return Header(tid, index, 0, begin if index == 0 else None, end if index == last else None)


@given(valid_headers())
def test_what_is_encoded_is_decoded(header: Header) -> None:
    assert decode(encode_header(header)) == header


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    with contextlib.suppress(BadRecord):
        decode(data)


@given(valid_headers(), st.data())
def test_no_mutation_crashes_the_decoder(header: Header, data: st.DataObject) -> None:
    """A damaged header is refused, or still says something that the encoder would say."""
    encoded = bytearray(encode_header(header))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(encoded))
    except BadRecord:
        return
    assert decode(encode_header(decoded)) == decoded


@given(valid_headers(), st.data())
def test_no_truncation_is_accepted(header: Header, data: st.DataObject) -> None:
    encoded = encode_header(header)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    assert refusal([(HEADER_NAME, encoded[:cut])]) is Reason.MALFORMED


@pytest.mark.parametrize("headers", [None, [], [("other", b"x")], [("KFD", b"x"), ("kfd2", None)]])
def test_a_record_without_the_header_is_foreign(headers: Any) -> None:
    assert refusal(headers) is Reason.FOREIGN


def test_other_headers_are_let_be() -> None:
    header = Header(TID, 1)
    assert decode_headers([("trace", None), ("kfd", encode_header(header)), ("x", b"")]) == header


@pytest.mark.parametrize("second", [None, b"", encode_header(Header(TID, 1))])
def test_two_headers_are_refused(second: bytes | None) -> None:
    headers = [("kfd", encode_header(Header(TID, 1))), ("kfd", second)]
    assert refusal(headers) is Reason.MALFORMED


def test_a_header_without_a_value_is_refused() -> None:
    assert refusal([("kfd", None)]) is Reason.MALFORMED


def padded(length: int) -> bytes:
    """A valid first header of that many bytes, by an unknown key of bin."""
    plain = bytearray(encode_header(Header(TID, 0, 0, BEGIN)))
    place = plain.index(bytes([0x80 | 11]) + b"\xa4path")
    plain[place] = 0x80 | 12
    padding = length - len(plain) - 5
    extra = b"\xa1x\xc5" + padding.to_bytes(2, "big") + bytes(padding)
    return bytes(plain[: place + 1]) + extra + bytes(plain[place + 1 :])


def test_the_longest_header_is_read_and_a_longer_one_is_not() -> None:
    assert decode(padded(MAX_HEADER)).begin == BEGIN
    assert refusal([("kfd", padded(MAX_HEADER + 1))]) is Reason.MALFORMED


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xdd\xff\xff\xff\xff" * 3000,
        b"\xdf\xff\xff\xff\xff" * 3000,
        b"\xdc\x30\x00" * 5000,
        b"\x96\x01" + b"\xdc\x30\x00" * 5000 + b"\xc0\xc0",
        b"\x91" * 16000,
        b"\x81" * 16000,
        b"\xdb\xff\xff\xff\xff" + bytes(100),
        b"\xc9\xff\xff\xff\xff\x05" + bytes(100),
    ],
)
def test_a_claim_allocates_nothing(hostile: bytes) -> None:
    tracemalloc.start()
    try:
        assert refusal([("kfd", hostile)]) is Reason.MALFORMED
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 512 * 1024


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": b"../up"}, Reason.BAD_PATH),
        ({"origin": "no/slash"}, Reason.MALFORMED_BEGIN),
        ({"chunks": 2}, Reason.MALFORMED_BEGIN),
        ({"chunk_size": 0}, Reason.MALFORMED_BEGIN),
        ({"size": 2**63}, Reason.MALFORMED_BEGIN),
        ({"mtime_ns": -(2**63) - 1}, Reason.MALFORMED_BEGIN),
        ({"meta": {"k": "v" * MAX_META}}, Reason.MALFORMED_BEGIN),
    ],
)
def test_the_encoder_refuses_what_the_decoder_would(
    changes: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(BadRecord) as caught:
        encode_header(Header(TID, 0, 0, dataclasses.replace(BEGIN, **changes)))
    assert caught.value.reason is reason


def test_the_encoder_makes_no_sealed_header() -> None:
    with pytest.raises(BadRecord, match="unsupported"):
        encode_header(Header(TID, 1, FLAG_SEALED))


def test_a_refusal_repeats_nothing_of_the_record() -> None:
    hostile = dataclasses.replace(BEGIN, origin="\x1b[31mowned")
    with pytest.raises(BadRecord) as caught:
        encode_header(Header(TID, 0, 0, hostile))
    assert "owned" not in str(caught.value)
    assert str(caught.value) == f"malformed-begin: {caught.value.detail}"


@given(counts, st.integers(0, 40).map(lambda power: 2**power))
def test_chunks_cover_the_file_exactly(size: int, chunk_size: int) -> None:
    chunks = chunk_count(size, chunk_size)
    begin = dataclasses.replace(BEGIN, size=size, chunk_size=chunk_size, chunks=chunks)
    last = begin.chunk_length(chunks - 1)
    assert (chunks - 1) * chunk_size + last == size
    assert last > 0 or (size, chunks) == (0, 1)
    assert chunks == 1 or begin.chunk_length(0) == chunk_size


def test_a_tid_is_time_and_chance_and_sorts_by_time() -> None:
    assert new_tid(0x0123456789AB, b"0123456789") == bytes.fromhex("0123456789ab") + b"0123456789"
    assert new_tid(1, b"\xff" * 10) < new_tid(2, bytes(10))
    with pytest.raises(ValueError, match="10 random bytes"):
        new_tid(1, b"short")


def test_a_record_key_is_the_tid_in_hex() -> None:
    assert record_key(TID) == b"000102030405060708090a0b0c0d0e0f"


@pytest.mark.parametrize(
    ("last", "now", "expected"), [(None, 7, 7), (6, 7, 7), (7, 7, 8), (9, 7, 10)]
)
def test_a_generation_is_always_newer(last: int | None, now: int, expected: int) -> None:
    assert next_generation(last, now) == expected


@pytest.mark.parametrize("name", ["a", "scope-3.lab_1", "9", "o" * 64])
def test_names_that_an_origin_may_have(name: str) -> None:
    assert is_origin(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "é", "o" * 65])
def test_names_that_an_origin_may_not_have(name: str) -> None:
    assert not is_origin(name)


def test_meta_is_measured_in_bytes() -> None:
    check_meta({"k": "é" * 2047})
    with pytest.raises(ValueError, match="4096"):
        check_meta({"k": "é" * 2048})


def test_meta_that_is_not_text_of_unicode_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        check_meta({"k": "\udcff"})


def test_the_longest_begin_fits_the_header() -> None:
    """No valid begin is refused for its length: the longest names, and the most keys of meta."""
    keys = "".join(map(chr, range(1, 0x800))).encode()  # of 1 and 2 bytes, each once
    meta = dict.fromkeys(keys[:MAX_META].decode(errors="ignore"), "")
    path = b"/".join([b"n" * 204] * 5)
    begin = dataclasses.replace(
        BEGIN, path=path, topic="t" * 249, origin="o" * 64, generation=2**63 - 1, meta=meta
    )
    begin = dataclasses.replace(begin, size=0, chunks=1, mtime_ns=-(2**63), mode=2**63 - 1)
    end = End(0, 1, blake3().digest())
    header = Header(TID, 0, 0, begin, end)
    assert decode(encode_header(header)) == header
