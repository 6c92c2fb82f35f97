"""The codec against records that openmsistream's own programs sent (tests/vectors)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kfd.openmsistream import Chunk, Encoder, decode, looks_like

VECTORS = Path(__file__).parents[1] / "vectors"
MTIME = 1_234_567_890.1234567
CONTENTS = {  # what the programs were given
    b"one.bin": b"hello",
    b"exact.bin": bytes(range(256)) * 8,
    b"many.bin": bytes(range(256)) * 10,
    b"x_y.dat": b"abc" * 100,
    b"sub/x_y.dat": b"abc" * 100,
    "sub/deep er/\u00fc 1.dat".encode(): b"d" * 7,
    b"back\\slash.dat": b"b",
    b"semi;colon": b"s",
    b"sub/run.1_APP.trc": b"appended",
}


def records(version: str) -> list[tuple[bytes, bytes]]:
    """Key and value of each."""
    stored = json.loads((VECTORS / f"openmsistream-{version}.json").read_text())
    return [(one["key"].encode(), bytes.fromhex(one["value"])) for one in stored]


@pytest.mark.parametrize("version", ["1.8.2", "1.8.8"])
def test_what_the_programs_sent_is_read(version: str) -> None:
    found: dict[bytes, dict[int, Chunk]] = {}
    for _, value in records(version):
        assert looks_like(value)
        chunk = decode(value)
        assert chunk.intact
        found.setdefault(chunk.path, {})[chunk.index] = chunk
    assert found.keys() == CONTENTS.keys()
    for path, content in CONTENTS.items():
        chunks = [found[path][index] for index in sorted(found[path])]
        assert b"".join(chunk.data for chunk in chunks) == content
        assert {chunk.file_sha512 for chunk in chunks} == {hashlib.sha512(content).digest()}
        assert [chunk.total for chunk in chunks] == [len(chunks)] * len(chunks)
        assert all(chunk.offset == (chunk.index - 1) * 1024 for chunk in chunks)


def test_times_are_those_of_the_files_where_they_were_sent() -> None:
    times = {chunk.path: chunk.mtime for _, value in records("1.8.8") for chunk in [decode(value)]}
    assert times.pop(b"sub/run.1_APP.trc") == 0.0  # not known
    assert set(times.values()) == {MTIME}
    assert {decode(value).mtime for _, value in records("1.8.2")} == {None}


def test_the_encoder_writes_what_the_programs_sent() -> None:
    sent = [(key, value) for key, value in records("1.8.8") if b"_APP" not in value]
    assert len(sent) == 11
    for key, value in sent:
        chunk = decode(value)
        assert chunk.mtime is not None
        encoder = Encoder(chunk.path, chunk.file_sha512, chunk.total, chunk.mtime)
        assert encoder.key(chunk.index) == key
        data = bytes(chunk.data)
        assert encoder.value(chunk.index, chunk.offset, data, chunk.chunk_sha512) == value
