"""File systems that can do less, and disks that are full or fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.ledger import Ledger
from kfd.daemon.publishing import renames
from kfd.daemon.publishing.mark import XATTR
from kfd.daemon.publishing.partials import DiskError
from tests.parts import Receiving, Sent, fill, mounted, receiving
from tests.unit.publishing.streams import Stream, conflict, go_on, newer, states, without_marks


def test_without_xattrs_the_ledger_is_the_mark(ledger: Ledger, tmp_path: Path) -> None:
    with without_marks(tmp_path) as disk, receiving(ledger, disk / "data") as parts:
        stream, old = Stream(parts), Sent(b"old")
        stream.receive(old)
        path = parts.root / "run.trc"
        with pytest.raises(OSError, match="not supported"):
            os.getxattr(path, XATTR)
        later = newer(old, b"new")
        stream.receive(later)
        assert parts.visible() == {b"run.trc": b"new"}
        path.write_bytes(b"edited")
        last = newer(later, b"last")
        stream.receive(last)
        assert parts.visible() == {b"run.trc": b"edited", conflict(last): b"last"}


def test_coarse_timestamps_are_no_edit(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vfat and old ext4 round the mtime; such a file system isn't there for a test everywhere."""
    utime = os.utime

    def coarse(path: Any, *, ns: tuple[int, int]) -> None:
        utime(path, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

    monkeypatch.setattr(os, "utime", coarse)
    old = Sent(b"old")
    stream.receive(old)
    stream.receive(newer(old, b"new"))
    assert parts.visible() == {b"run.trc": b"new"}


@pytest.mark.parametrize("mtime_ns", [-(2**63), 2**63 - 1])
def test_no_time_that_a_file_system_rounds_beyond_64_bits(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch, mtime_ns: int
) -> None:
    """It would end the consumer, and again after each start; cifs rounds so, and isn't here."""
    utime, given = os.utime, list[int]()

    def noted(path: Any, *, ns: tuple[int, int]) -> None:
        given.extend(ns)
        utime(path, ns=ns)

    monkeypatch.setattr(os, "utime", noted)
    stream.receive(Sent(b"x", mtime_ns=mtime_ns))
    assert parts.visible() == {b"run.trc": b"x"}
    assert given
    assert all(abs(one) + 2 * 10**9 < 2**63 for one in given)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_file_system_without_noreplace(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """NFS and some FUSE file systems refuse the flag; link and unlink do the same."""
    monkeypatch.setattr(renames, "_renameat2", lambda *_: -1)
    monkeypatch.setattr(renames.ctypes, "get_errno", lambda: code)
    (parts.root / "taken").write_bytes(b"theirs")
    sent, other = Sent(b"x"), Sent(b"ours", b"taken")
    stream.receive(sent, other)
    assert parts.visible() == {b"run.trc": b"x", b"taken": b"theirs", conflict(other): b"ours"}
    assert parts.parts() == []
    assert (parts.root / "run.trc").stat().st_nlink == 1


@pytest.fixture
def small(tmp_path: Path, ledger: Ledger) -> Iterator[Receiving]:
    with (
        mounted(tmp_path / "disk", "tmpfs", "size=256k,mode=755"),
        receiving(ledger, tmp_path / "disk" / "data") as parts,
    ):
        yield parts


def test_full_disk_while_appending(small: Receiving) -> None:
    sent = Sent(bytes(5000) + b"end")  # two pages
    records = sent.records()
    small.receiver.receive(records[:1])
    filler = fill(small.root.parent)
    big = Sent(os.urandom(8), b"big")
    with pytest.raises(DiskError, match="No space left") as caught:
        small.receiver.receive([*big.records(1), *records[1:]])
    assert caught.value.retry
    assert "free space" in caught.value.fix
    assert len(small.parts()) == 1  # the oldest is not given up
    filler.unlink()
    go_on(small, big.records(1))
    assert small.visible() == {b"run.trc": sent.content, b"big": big.content}


@pytest.mark.parametrize("free", range(16))
def test_disk_that_fills_up_anywhere_in_a_batch(small: Receiving, free: int) -> None:
    """With so many pages left: partials, directories or none of it fit; nothing half is seen."""
    filler = fill(small.root.parent, leave=4096 * free)
    sent = [Sent(b"%d" % n * 9, b"%d/%d/file" % (n, n)) for n in range(4)]
    batch = [one for n, file in enumerate(sent) for one in file.records(0, 3 * n)]
    whole = {one.path: one.content for one in sent}
    with suppress(DiskError):
        small.receiver.receive(batch)
    assert small.visible().items() <= whole.items()
    filler.unlink()
    go_on(small, batch)
    assert small.visible() == whole
    assert {state for state, _ in states(small.ledger).values()} == {"published"}
    assert small.receiver.safe_offsets()[0] == 12


@pytest.mark.parametrize("code", [errno.EIO, errno.EDQUOT, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("call", ["fsync", "mkdir", "unlink", "setxattr", "_renameat2"])
def test_failing_disk_while_publishing(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """No real disk fails on demand: the system call does, at every place where it is made."""
    old = Sent(b"old", b"d/replaced")
    stream.receive(old)
    failed = 0
    for place in range(10):
        batch = [
            newer(old, b"newer %d" % place, by=place + 1),
            Sent(b"x", b"x%d" % place), Sent(b"y", b"new%d/y" % place),
        ]  # fmt: skip
        records = [r for n, one in enumerate(batch) for r in one.records(0, stream.offset + 9 * n)]
        stream.offset += 27
        before = parts.visible()
        after = before | {one.path: one.content for one in batch}
        with monkeypatch.context() as patch:
            fail_once(patch, renames if call == "_renameat2" else os, call, place, code)
            try:
                parts.receiver.receive(records)
            except DiskError:
                failed += 1
                seen = parts.visible().items()
                assert seen <= {*before.items(), *after.items()}
        go_on(parts, records)
        assert parts.visible() == after
        assert parts.parts() == []
    assert failed
    assert {state for state, _ in states(parts.ledger).values()} == {"published"}


def fail_once(patch: pytest.MonkeyPatch, owner: Any, call: str, place: int, code: int) -> None:
    """Let a system call fail when it is made for the ``place``-th time."""
    real, calls = getattr(owner, call), iter(range(1000))

    def failing(*args: Any, **keys: Any) -> Any:
        if next(calls) == place:
            raise OSError(code, os.strerror(code))
        return real(*args, **keys)

    patch.setattr(owner, call, failing)


def test_partial_that_vanished_is_read_again(parts: Receiving) -> None:
    """Somebody cleaned up ``.kfd``: the bytes are still in Kafka, so nothing is given up."""
    sent = Sent(b"abcdefgh")
    first, second = sent.records()
    parts.receiver.receive([first])
    for part in (parts.root / ".kfd").glob("*.part"):
        part.unlink()
    with pytest.raises(DiskError):
        parts.receiver.receive([second])
    parts.receiver.resume()
    assert parts.receiver.take_rewinds() == {0: 0}
    parts.receiver.receive([first, second])
    assert parts.visible() == {b"run.trc": sent.content}
