"""The decoder against frozen headers that were put together without it (tests/vectors)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kfd.wire import HEADER_NAME, BadRecord, Begin, End, Header, decode_headers, encode_header

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire-v1.json").read_text())


def by_name(vector: Mapping[str, Any]) -> str:
    return str(vector["name"])


def expected_header(vector: Mapping[str, Any]) -> Header:
    begin, end = vector["begin"], vector["end"]
    if begin is not None:
        path, instance = bytes.fromhex(begin["path"]), bytes.fromhex(begin["instance"])
        begin = Begin(**begin | {"path": path, "instance": instance})
    if end is not None:
        end = End(**end | {"digest": bytes.fromhex(end["digest"])})
    return Header(bytes.fromhex(vector["tid"]), vector["index"], vector["flags"], begin, end)


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=by_name)
def test_accepted(vector: Mapping[str, Any]) -> None:
    data = bytes.fromhex(vector["header"])
    assert decode_headers([(HEADER_NAME, data)]) == expected_header(vector)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=by_name)
def test_refused(vector: Mapping[str, Any]) -> None:
    with pytest.raises(BadRecord) as caught:
        decode_headers([(HEADER_NAME, bytes.fromhex(vector["header"]))])
    assert caught.value.reason == vector["reason"]


@pytest.mark.parametrize(
    "name", ["first of three", "middle of three", "last of three", "an empty file", "an abort"]
)
def test_the_encoder_writes_what_is_frozen(name: str) -> None:
    [vector] = [vector for vector in VECTORS["accepted"] if vector["name"] == name]
    assert encode_header(expected_header(vector)).hex() == vector["header"]
