"""Names in open directories, and copies of what has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.disposal.place import Place


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_copy_is_whole_and_known_as_one(directory: int, tmp_path: Path) -> None:
    one, other = Place(directory, b"one"), Place(directory, b"other")
    (tmp_path / "one").write_bytes(b"content")
    os.utime(tmp_path / "one", ns=(1, 2))
    (tmp_path / "other").write_bytes(b"what an attempt before has left")
    assert not one.same_content(other)
    one.copy_to(other)
    assert one.same_content(other)
    assert (tmp_path / "other").stat().st_mtime_ns == 2


def test_the_same_size_and_time_is_not_the_same_content(directory: int, tmp_path: Path) -> None:
    for name, content in (("one", b"content"), ("other", b"CONTENT")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(1, 2))
    assert not Place(directory, b"one").same_content(Place(directory, b"other"))
