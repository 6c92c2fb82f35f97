"""Files in openmsistream's format, with real files: what was hashed is what is sent."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.outgoing.formats import PeerSending, sending_of
from kfd.daemon.outgoing.sending import Sending
from kfd.openmsistream import Chunk, decode
from tests.parts import outgoing_row

CHUNK = 64
CONTENT = bytes(range(256)) * 2
INSTANCE = bytes(16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.trc"
    path.write_bytes(CONTENT)
    return path


def row_of(path: Path, name: bytes = b"d/run.trc", acked: int = 0, **changes: object) -> Outgoing:
    status = path.stat()
    row = replace(
        outgoing_row(1, status.st_size, CHUNK),
        path=name, source=os.fsencode(path), device=status.st_dev, inode=status.st_ino,
        mtime_ns=status.st_mtime_ns, acked=acked, format="openmsistream",
    )  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]


def start(row: Outgoing) -> PeerSending:
    sending = sending_of(row, "scope3", INSTANCE)
    assert isinstance(sending, PeerSending)
    return sending


def read_all(sending: Sending) -> list[Chunk]:
    """What a receiver's decoder makes of the records, until the end or a failure."""
    chunks = []
    while sending.behind and sending.failure is None:
        sending.catch_up(2)  # as producers do: a few chunks a turn
    while not sending.read_to_end and sending.failure is None:
        record = sending.read()
        if record is not None:
            key, headers, value = record
            chunk = decode(value)
            assert headers is None
            assert key.decode().endswith(f"_chunk_{chunk.index}_of_{chunk.total}")
            chunks.append(chunk)
    sending.close()
    return chunks


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_file_becomes_records_that_give_it_back(path: Path, size: int) -> None:
    content = CONTENT[:size]
    path.write_bytes(content)
    os.utime(path, (5.25, 5.25))
    sending = start(row_of(path))
    chunks = read_all(sending)
    total = max(1, -(-size // CHUNK))
    assert sending.failure is None
    assert sending.digest == blake3(content).digest()
    assert [(one.index, one.total) for one in chunks] == [(n, total) for n in range(1, total + 1)]
    assert b"".join(one.data for one in chunks) == content
    assert {one.file_sha512 for one in chunks} == {hashlib.sha512(content).digest()}
    assert {(one.path, one.mtime) for one in chunks} == {(b"d/run.trc", 5.25)}
    assert all(one.intact for one in chunks)


@pytest.mark.parametrize("acked", [1, 4, 7])
def test_what_was_acknowledged_is_not_sent_again(path: Path, acked: int) -> None:
    row = row_of(path, acked=acked, digest=blake3(CONTENT).digest())
    assert read_all(start(row)) == read_all(start(row_of(path)))[acked:]


def test_all_acknowledged_before_a_kill_needs_no_look(path: Path) -> None:
    sending = start(row_of(path, acked=8, digest=blake3(CONTENT).digest()))
    path.unlink()
    assert not sending.behind
    assert sending.read_to_end


def rewritten(path: Path) -> None:
    """Other bytes, and by size and mtime the same file."""
    status = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_rest_of_another_content_is_not_sent(path: Path) -> None:
    row = row_of(path, acked=3, digest=blake3(CONTENT).digest())
    rewritten(path)
    sending = start(row)
    assert read_all(sending) == []
    assert sending.failure is not None
    assert sending.failure.look_again


def test_what_was_hashed_is_what_is_sent_or_the_last_record_never_goes(path: Path) -> None:
    sending = start(row_of(path))
    while sending.behind:
        sending.catch_up(2)
    assert sending.read() is not None
    rewritten(path)
    chunks = read_all(sending)
    assert [one.index for one in chunks] == [2, 3, 4, 5, 6, 7]
    assert sending.failure is not None
    assert sending.failure.look_again


@pytest.mark.parametrize("after", [0, 1])
def test_a_change_while_it_is_hashed_or_sent_is_seen(path: Path, after: int) -> None:
    sending = start(row_of(path))
    sending.catch_up(2)
    if after:
        while sending.behind:
            sending.catch_up(2)
        assert sending.read() is not None
    os.utime(path)
    chunks = read_all(sending)
    assert all(one.index < 8 for one in chunks)
    assert sending.failure is not None
    assert sending.failure.state == "cancelled"


@pytest.mark.parametrize(
    "name", [b"\xff.trc", b"a/\xe4.trc", b"LOGS", b"LOGS/a", b"DataFileDownloadDirectory.log"]
)
def test_names_that_its_receivers_cannot_have(path: Path, name: bytes) -> None:
    for row in (row_of(path, name), row_of(path, name, chunk_size=1024)):
        sending = start(row)
        assert read_all(sending) == []
        assert sending.failure is not None
        assert (sending.failure.state, bool(sending.failure.fix)) == ("failed", True)


def test_there_is_nothing_like_an_abort(path: Path) -> None:
    sending = start(row_of(path))
    sending.catch_up(8)
    sending.read()
    sending.produced = 1
    assert sending.abort_record() is None
    assert not sending.has_partials
