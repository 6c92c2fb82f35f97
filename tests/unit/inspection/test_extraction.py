"""One transfer out of all records: verified, or an error that says what is missing."""

from __future__ import annotations

import hashlib
import io
import random

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.errors import KfdError, NoSuchTransferError, TransferFailedError
from kfd.inspection.extraction import Extraction
from kfd.inspection.record import Recognizer, Record
from kfd.openmsistream import Encoder
from tests.unit.inspection.records import (
    TOPIC,
    TOPIC_ID,
    kfd_records,
    looked,
    peer_records,
    record,
    upload_of,
)

CONTENT = b"0123456789abcdef!"  # five chunks


def tid_of(some: Record) -> str:
    ((_, look),) = looked([some])
    assert look.tid is not None
    return look.tid.hex()


def extract(tid: str, records: list[Record]) -> bytes:
    file = io.BytesIO()
    extraction = Extraction(tid, file)
    for one, look in looked(records):
        if extraction.take(one, look) is not None:
            return file.getvalue()
    raise extraction.unfinished()


@pytest.mark.parametrize("make", [kfd_records, peer_records])
def test_a_whole_one_among_others(make: type) -> None:
    mine = make(CONTENT, b"mine")
    others = [*kfd_records(b"another", b"theirs"), *peer_records(b"another", b"theirs")]
    woven = [*others[:3], *mine[:2], *others[3:], record(b"foreign"), *mine[2:]]
    assert extract(tid_of(mine[0])[-8:], woven) == CONTENT
    assert extract(tid_of(mine[0]), woven) == CONTENT


def test_an_empty_one() -> None:
    (one,) = kfd_records(b"")
    assert extract(tid_of(one), [one]) == b""


def test_repeats_after_a_resume() -> None:
    mine = kfd_records(CONTENT)
    assert extract(tid_of(mine[0]), [*mine[:3], *mine[:2], *mine[1:]]) == CONTENT


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_shuffled_and_repeated_chunks_of_the_peers(seed: int, size: int) -> None:
    source = random.Random(seed)
    content = source.randbytes(size)
    mine = peer_records(content)
    mine += source.choices(mine, k=3)
    source.shuffle(mine)
    assert extract(tid_of(mine[0]), mine) == content


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (kfd_records, "run.trc is not whole on the topic: 2 of 5 chunks, 8 of 17 bytes"),
        (peer_records, "run.trc is not whole on the topic: 4 of 5 chunks came, the first that"
         " didn't is 3"),
    ],
)  # fmt: skip
def test_a_missing_chunk(make: type, says: str) -> None:
    mine = make(CONTENT)
    with pytest.raises(TransferFailedError, match=says):
        extract(tid_of(mine[0]), [*mine[:2], *mine[3:]])


def test_a_tampered_chunk() -> None:
    mine = kfd_records(CONTENT)
    spoilt = record(b"????", mine[2].headers)
    with pytest.raises(TransferFailedError, match="are not the file that was sent"):
        extract(tid_of(mine[0]), [*mine[:2], spoilt, *mine[3:]])


def test_a_chunk_of_another_length() -> None:
    mine = kfd_records(CONTENT)
    with pytest.raises(TransferFailedError, match="isn't as long as"):
        extract(tid_of(mine[0]), [*mine[:2], record(b"?", mine[2].headers), *mine[3:]])


def test_an_aborted_one() -> None:
    mine = kfd_records(CONTENT)
    abort = record(b"", [("kfd", msgpack.packb([1, bytes.fromhex(tid_of(mine[0])), 2, 2, None,
                                                None]))])  # fmt: skip
    with pytest.raises(TransferFailedError, match="its sender gave it up: 2 of 5 chunks"):
        extract(tid_of(mine[0]), [*mine[:2], abort])


def test_one_without_its_head() -> None:
    mine = kfd_records(CONTENT)
    with pytest.raises(TransferFailedError, match=r"first record of .* is not there"):
        extract(tid_of(mine[0]), mine[1:])


def test_none_at_all() -> None:
    with pytest.raises(NoSuchTransferError):
        extract("00000000", [*kfd_records(CONTENT), *peer_records(CONTENT)])


def test_an_id_of_two() -> None:
    one = kfd_records(CONTENT, tid=b"\1" * 16)
    other = kfd_records(CONTENT, tid=b"\2" * 12 + b"\1" * 4)
    with pytest.raises(KfdError, match="several transfers end with 01010101"):
        extract("01010101", [one[0], *other])
    assert extract("01" * 16, [one[0], *other, *one[1:]]) == CONTENT


def peers(content: bytes, claimed: bytes) -> list[Record]:
    """Chunks that are what their digests say, of a file that isn't."""
    pieces = [content[at : at + 4] for at in range(0, len(content), 4)]
    encoder = Encoder(b"run.trc", hashlib.sha512(claimed).digest(), len(pieces), 0.0)
    return [
        record(encoder.value(at + 1, at * 4, piece, hashlib.sha512(piece).digest()))
        for at, piece in enumerate(pieces)
    ]


def test_a_peers_file_that_is_another() -> None:
    mine = peers(CONTENT, b"something else")
    with pytest.raises(TransferFailedError, match="are not the file that was sent"):
        extract(tid_of(mine[0]), mine)


def lie(at: int, data: bytes) -> Record:
    """A chunk of CONTENT's file that is what its own digest says, and not what was sent."""
    encoder = Encoder(b"run.trc", hashlib.sha512(CONTENT).digest(), 5, 1e9)
    return record(encoder.value(at + 1, at * 4, data, hashlib.sha512(data).digest()))


@pytest.mark.parametrize("false", [lie(1, b"????"), lie(4, b"????"), lie(4, b"?")])
def test_a_peers_file_that_somebody_spoilt_comes_again(false: Record) -> None:
    mine = peer_records(CONTENT)
    spoilt = [false, *mine]
    assert extract(tid_of(mine[0]), [*spoilt, *mine]) == CONTENT
    assert extract(tid_of(mine[0]), [*spoilt, *spoilt, *reversed(mine)]) == CONTENT
    for rest in ([], mine[:3]):
        with pytest.raises(TransferFailedError, match="are not the file that was sent"):
            extract(tid_of(mine[0]), [*spoilt, *rest])


def test_a_later_upload_of_the_peers() -> None:
    mine = peer_records(CONTENT)
    asked = upload_of(mine[0], 3)
    file = io.BytesIO()
    extraction = Extraction(asked[-8:], file)
    ended = [
        source
        for one, look in looked(mine, Recognizer(TOPIC, TOPIC_ID, [asked[-8:]]))
        if (source := extraction.take(one, look)) is not None
    ]
    assert [one.tid.hex() for one in ended] == [asked]
    assert file.getvalue() == CONTENT


def test_a_damaged_chunk_of_the_peers_waits_for_a_sound_one() -> None:
    mine = peer_records(CONTENT)
    value = mine[1].value or b""
    spoilt = record(value.replace(b"4567", b"????"))
    assert extract(tid_of(mine[0]), [mine[0], spoilt, *mine[1:]]) == CONTENT
    with pytest.raises(TransferFailedError, match="1 are not what their digests say"):
        extract(tid_of(mine[0]), [mine[0], spoilt, *mine[2:]])
