"""The mark on a durable partial: nothing but what was written is believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon.publishing import partialmark
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partialmark import XATTR, PartialMark
from tests.parts import CHUNK, TOPIC_ID, Sent

SENT = Sent(bytes(range(40)), tid=bytes(range(16)))
KEY = PartKey(SENT.tid, 3)
MARK = PartialMark(TOPIC_ID, 3, SENT.tid, SENT.begin, 77, 5)


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "partial", os.O_RDWR | os.O_CREAT)
    os.write(fd, SENT.content[: 5 * CHUNK])
    yield fd
    os.close(fd)


def test_it_is_read_as_it_was_written(partial: int) -> None:
    assert partialmark.read(partial, KEY) is None
    assert partialmark.write(partial, MARK)
    assert partialmark.read(partial, KEY) == MARK
    assert MARK.size == 5 * CHUNK
    partialmark.remove(partial)
    assert partialmark.read(partial, KEY) is None
    partialmark.remove(partial)


def test_a_file_that_is_shorter_than_it_claims_is_not_believed(partial: int) -> None:
    partialmark.write(partial, MARK)
    os.ftruncate(partial, 5 * CHUNK - 1)
    assert partialmark.read(partial, KEY) is None
    os.ftruncate(partial, 6 * CHUNK)  # a surplus is cut off by whoever goes on
    assert partialmark.read(partial, KEY) == MARK


@pytest.mark.parametrize("key", [PartKey(bytes(16), 3), PartKey(SENT.tid, 4)])
def test_a_mark_of_another_partial_is_not_believed(partial: int, key: PartKey) -> None:
    partialmark.write(partial, MARK)
    assert partialmark.read(partial, key) is None


@pytest.mark.parametrize("chunks", [0, 10, 11, 2**63])
def test_chunks_that_cannot_be(partial: int, chunks: int) -> None:
    partialmark.write(partial, replace(MARK, chunks=chunks))
    assert partialmark.read(partial, KEY) is None


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_decoder(value: bytes) -> None:
    assert partialmark.decode(value, KEY) is None


@given(st.data())
def test_no_mutation_crashes_the_decoder(data: st.DataObject) -> None:
    value = bytearray(MARK.encode())
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] = data.draw(st.integers(0, 255))
    mark = partialmark.decode(bytes(value[: data.draw(st.integers(place + 1, len(value)))]), KEY)
    assert mark is None or (mark.tid, mark.partition) == KEY


def test_a_mark_longer_than_its_file_system_takes_is_no_error(partial: int) -> None:
    long = replace(SENT.begin, meta={"note": "x" * 4000}, path=b"/".join([b"d" * 200] * 5))
    mark = replace(MARK, begin=long)
    if partialmark.write(partial, mark):  # tmpfs takes it, ext4 doesn't
        assert partialmark.read(partial, KEY) == mark
    else:
        assert XATTR not in os.listxattr(partial)
