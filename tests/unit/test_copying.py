"""Copying a descriptor: every byte, from the beginning, whatever the file system can do."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest

from kfd.daemon.admission import copying
from kfd.daemon.admission.copying import STEP, copy

SIZES = [0, 1, 4096, copying._BUFFER + 1, STEP + 12345]


def all_of_it(_: int) -> int:
    return 1 << 40


def copied(source: Path, target: Path, *, limit: int = 1 << 40) -> int:
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as written:
        read.seek(7)  # its position is its owner's business
        done = copy(read.fileno(), written.fileno(), lambda done: limit - done)
        assert read.tell() == 7
    return done


@pytest.fixture(params=SIZES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(request.param))
    return path


def test_copy_is_the_same(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert copied(source, target) == source.stat().st_size
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("number", sorted(copying._NOT_FOR_THE_KERNEL))
def test_copy_without_the_kernels_help(
    source: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    target = tmp_path / "target"
    assert copied(source, target) == source.stat().st_size
    assert target.read_bytes() == source.read_bytes()


def test_another_file_system(source: Path, tmp_path: Path) -> None:
    memory = Path("/dev/shm", f"kfd-test-{os.getpid()}")
    try:
        assert copied(source, memory) == source.stat().st_size
        assert memory.read_bytes() == source.read_bytes()
    finally:
        memory.unlink(missing_ok=True)


def test_file_that_does_not_say_its_size(tmp_path: Path) -> None:
    target = tmp_path / "target"
    version = Path("/proc/version")
    assert version.stat().st_size == 0
    assert copied(version, target) == len(version.read_bytes())
    assert target.read_bytes() == version.read_bytes()


def test_no_more_than_is_allowed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(10_000))
    assert copied(source, target, limit=4097) == 4097
    assert target.stat().st_size == 4097


def test_each_step_is_asked_for(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(3 * STEP)
    asked: list[int] = []

    def before_step(done: int) -> int:
        asked.append(done)
        return 1 << 40

    with source.open("rb") as read, target.open("wb") as written:
        copy(read.fileno(), written.fileno(), before_step)
    assert len(asked) >= 4
    assert all(later - earlier <= STEP for earlier, later in pairwise(asked))


def test_not_all_of_a_large_file_waits_to_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda target: synced.append(os.fstat(target).st_size))
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(2 * STEP + 1)
    assert copied(source, target) == 2 * STEP + 1
    assert synced == [STEP, 2 * STEP]


def test_errors_are_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with source.open("rb") as read, Path("/dev/full").open("wb", buffering=0) as full:
        with pytest.raises(OSError, match="No space left") as caught:
            copy(read.fileno(), full.fileno(), all_of_it)
        assert caught.value.errno == errno.ENOSPC
