"""Receipts as they go over Kafka: frozen vectors, and whatever anybody may put on the topic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgpack import packb

from kfd.receipts import (
    MAX_REASON,
    MAX_RECEIPTS,
    MAX_RECORD,
    Outcome,
    Receipt,
    Receipts,
    decode,
    encode,
    fit_reason,
    key_of,
    topic_of,
)
from kfd.wire import BadRecord, Reason

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "receipts-v1.json").read_text())
INSTANCE = bytes.fromhex(VECTORS["instance"])


def by_name(vector: Mapping[str, Any]) -> str:
    return str(vector["name"])


def expected(vector: Mapping[str, Any]) -> list[Receipt]:
    return [
        Receipt(
            bytes.fromhex(one["tid"]),
            Outcome(one["outcome"]),
            one["digest"] and bytes.fromhex(one["digest"]),
            one["generation"],
            one["reason"],
        )
        for one in vector["receipts"]
    ]


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=by_name)
def test_accepted(vector: Mapping[str, Any]) -> None:
    decoded = decode(bytes.fromhex(vector["value"]))
    assert decoded == Receipts(VECTORS["receiver"], INSTANCE, expected(vector))


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=by_name)
def test_refused(vector: Mapping[str, Any]) -> None:
    with pytest.raises(BadRecord) as caught:
        decode(bytes.fromhex(vector["value"]))
    assert caught.value.reason == vector["reason"]


@pytest.mark.parametrize("name", ["published", "two of one receiver", "the longest reason"])
def test_the_encoder_writes_what_is_frozen(name: str) -> None:
    [vector] = [vector for vector in VECTORS["accepted"] if vector["name"] == name]
    [written] = encode(VECTORS["receiver"], INSTANCE, expected(vector))
    assert written.hex() == vector["value"]


receipts = st.builds(
    Receipt,
    tid=st.binary(min_size=16, max_size=16),
    outcome=st.sampled_from(Outcome),
    digest=st.none() | st.binary(min_size=32, max_size=32),
    generation=st.none() | st.integers(0, 2**63 - 1),
    reason=st.text().map(fit_reason),
)


@given(st.lists(receipts, min_size=1, max_size=4), st.integers(1, 150))
def test_what_is_encoded_is_decoded_in_order(some: list[Receipt], times: int) -> None:
    some = some * times
    records = list(encode("lab2", INSTANCE, some))
    assert len(records) == -(-len(some) // MAX_RECEIPTS)
    assert [one for record in records for one in decode(record).receipts] == some


def test_the_largest_record_is_one_that_is_read() -> None:
    longest = Receipt(bytes(16), Outcome.QUARANTINED, bytes(32), 2**63 - 1, "x" * MAX_REASON)
    [record] = encode("a" * 64, INSTANCE, [longest] * MAX_RECEIPTS)
    assert len(record) <= MAX_RECORD
    assert len(decode(record).receipts) == MAX_RECEIPTS


def test_no_receipts_make_no_record() -> None:
    assert list(encode("lab2", INSTANCE, [])) == []


READ_OR_REFUSED = {None, Reason.FOREIGN, Reason.MALFORMED, Reason.UNSUPPORTED}


def reason_of(value: bytes | None) -> Reason | None:
    """Why a value is refused, None if it is read. Any other error fails the test."""
    try:
        decode(value)
    except BadRecord as bad:
        return bad.reason
    return None


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.none() | st.binary() | values.map(packb))
def test_whatever_is_there_is_read_or_refused(value: bytes | None) -> None:
    assert reason_of(value) in READ_OR_REFUSED


@given(st.lists(receipts, min_size=1, max_size=3), st.data())
def test_a_flipped_byte_is_read_or_refused(some: list[Receipt], data: st.DataObject) -> None:
    [record] = encode("lab2", INSTANCE, some)
    at = data.draw(st.integers(0, len(record) - 1))
    flipped = bytearray(record)
    flipped[at] ^= data.draw(st.integers(1, 255))
    assert reason_of(bytes(flipped)) in READ_OR_REFUSED


def test_a_claim_allocates_nothing() -> None:
    nested = b"\xdd\x00\x00\x01\x00" * 20_000
    with pytest.raises(BadRecord, match="foreign"):
        decode(nested)
    with pytest.raises(BadRecord, match="foreign"):
        decode(b"\x91" * (MAX_RECORD + 1))


@given(st.text())
def test_a_reason_is_made_to_fit(text: str) -> None:
    fitted = fit_reason(text)
    assert fitted.isprintable()
    assert len(fitted.encode()) <= MAX_REASON


def test_names() -> None:
    assert topic_of("lecroy_files") == "lecroy_files.receipts"
    assert topic_of("x" * 240) == "x" * 240 + ".receipts"
    assert topic_of("x" * 241) is None, "Kafka has no topics with such long names"
    assert key_of(INSTANCE) == INSTANCE.hex().encode()
    assert key_of(None) is None
