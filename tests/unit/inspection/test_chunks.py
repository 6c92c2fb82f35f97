"""``kfdctl inspect file``: chunks of any size, with the digests of either wire."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from kfd.inspection.chunks import ChunkedFile, Format
from kfd.openmsistream import Encoder, decode
from tests.unit.ctl.kfdctl import DEADLINE, Terminal, run, start

CONTENT = random.Random(7).randbytes(200_001)


@given(st.binary(max_size=300), st.integers(1, 310))
def test_chunks_are_the_file(content: bytes, size: int) -> None:
    read = ChunkedFile(io.BytesIO(content), size, Format.KFD)
    chunks = list(read.read())
    pieces = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    assert [one.digest for one in chunks] == [blake3(piece).hexdigest() for piece in pieces]
    assert [(one.number, one.offset, one.size) for one in chunks] == [
        (number, number * size, len(piece)) for number, piece in enumerate(pieces)
    ]
    assert (read.size, read.chunks) == (len(content), len(pieces))
    assert read.digest == blake3(content).hexdigest()


def test_openmsistream_has_its_own_digests_and_numbers() -> None:
    """They are those that its records hold."""
    size, total = 65536, 4
    read = ChunkedFile(io.BytesIO(CONTENT), size, Format.OPENMSISTREAM)
    encoder = Encoder(b"run.trc", hashlib.sha512(CONTENT).digest(), total, 0.0)
    for one in read.read():
        data = CONTENT[one.offset : one.offset + one.size]
        digest = hashlib.sha512(data).digest()
        record = decode(encoder.value(one.number, one.offset, data, digest))
        assert (record.index, record.chunk_sha512.hex()) == (one.number, one.digest)
    assert (read.chunks, read.digest) == (total, hashlib.sha512(CONTENT).hexdigest())


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run.trc"
    path.write_bytes(CONTENT)
    return path


def test_what_people_see(trace: Path) -> None:
    code, out, err = run("inspect", "file", trace, "--chunk-size", "64KiB")
    assert (code, err) == (0, "")
    head, *rows, whole, amount = out.splitlines()
    assert head.split() == ["NUMBER", "OFFSET", "SIZE", "BLAKE3"]
    assert rows[3].split() == [
        "3", str(3 * 65536), str(200_001 - 3 * 65536), blake3(CONTENT[3 * 65536 :]).hexdigest(),
    ]  # fmt: skip
    assert whole == f"BLAKE3 {blake3(CONTENT).hexdigest()}"
    assert amount == f"4 chunks, 195 KiB (200,001 bytes): {trace}"


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_a_chunk_a_line_and_then_the_file(trace: Path) -> None:
    code, out, _ = run(
        "inspect", "file", trace, "--chunk-size", "100", "--json", "--format", "openmsistream"
    )
    *chunks, whole = documents(out)
    assert code == 0
    assert len(chunks) == whole["file"]["chunks"] == 2001
    assert chunks[0]["chunk"]["number"] == 1
    assert whole["file"]["digest"] == hashlib.sha512(CONTENT).hexdigest()


def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with start("inspect", "file", fifo, "--chunk-size", "300") as process:
        fifo.write_bytes(b"x" * 1000)
        out, _ = process.communicate(timeout=DEADLINE)
    assert [row.split()[2] for row in out.splitlines()[1:5]] == ["300", "300", "300", "100"]
    assert f"BLAKE3 {blake3(b'x' * 1000).hexdigest()}" in out


def test_what_cannot_be_read(tmp_path: Path) -> None:
    code, _, err = run("inspect", "file", tmp_path / "none\x1b[2J")
    assert code == 1
    assert err.splitlines() == [
        f"{tmp_path}/none\\x1b[2J: can't be read: No such file or directory",
        "  fix: look at PATH",
    ]
    assert run("inspect", "file", tmp_path)[0] == 1


@pytest.mark.parametrize("size", ["0", "many", "-1"])
def test_a_size_that_is_none(trace: Path, size: str) -> None:
    assert run("inspect", "file", trace, f"--chunk-size={size}")[0] == 2


@pytest.mark.parametrize("columns", [80, 40])
def test_it_fits_the_terminal(trace: Path, columns: int) -> None:
    terminal = Terminal("inspect", "file", trace, "--chunk-size", "1024", columns=columns)
    assert terminal.end() == 0
    words = [row.split() for row in terminal.lines if len(row) > columns]
    assert all(len(row) <= 2 for row in words), words  # digests and the path, to be copied
