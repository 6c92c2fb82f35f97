"""The mark on a published file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kfd.daemon.publishing.mark import XATTR, Mark, lineage, read_mark, write_mark
from tests.parts import Sent


def test_mark_is_read_as_it_was_written(tmp_path: Path) -> None:
    mark = Mark.of(bytes(range(16)), Sent(b"abc").begin, -5)
    with (tmp_path / "file").open("wb") as file:
        assert read_mark(file.fileno()) is None
        write_mark(file.fileno(), mark)
        assert read_mark(file.fileno()) == mark
    assert len(mark.encode()) <= 64  # stays within an ext4 inode


@pytest.mark.parametrize("value", [b"", b"\1", b"\2" + bytes(56), bytes(57), b"\1" + bytes(60)])
def test_foreign_mark_is_none(tmp_path: Path, value: bytes) -> None:
    with (tmp_path / "file").open("wb") as file:
        os.setxattr(file.fileno(), XATTR, value)
        assert read_mark(file.fileno()) is None


def test_lineages_are_told_apart() -> None:
    seen = {
        lineage(*one)
        for one in [
            ("t", "o", b"p"), ("to", "", b"p"), ("t", "op", b""), ("u", "o", b"p"),
            ("t", "p", b"p"), ("t", "o", b"q"),
        ]
    }  # fmt: skip
    assert len(seen) == 6
