"""Publishing: whole, once, newest wins, nobody else's file is touched; killed between any two
steps, the next start ends it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon import destination as destination_module
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.mark import XATTR, Mark, lineage, read_mark, write_mark
from kfd.daemon.partials import MAX_DESCRIPTORS, DiskError, sweep
from kfd.daemon.receiver import Record
from kfd.daemon.settlement import settle
from kfd.paths import conflict_name
from tests.parts import (
    GENERATION,
    ROUTE,
    TOPIC,
    TOPIC_ID,
    Receiving,
    Sent,
    fill,
    in_child,
    kill_self,
    mounted,
    receiving,
    running_ledger,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

KILLED = -9


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with running_ledger(tmp_path / "state") as ledger:
        yield ledger


@pytest.fixture
def parts(ledger: Ledger, tmp_path: Path) -> Iterator[Receiving]:
    with receiving(ledger, tmp_path / "data") as parts:
        yield parts


class Stream:
    """Records of partition 0, one after the other."""

    def __init__(self, parts: Receiving) -> None:
        self.parts = parts
        self.offset = 0

    def receive(self, *sent: Sent) -> None:
        """All of these in one batch."""
        batch = []
        for one in sent:
            records = one.records(offset=self.offset)
            self.offset += len(records)
            batch += records
        self.parts.receiver.receive(batch)


@pytest.fixture
def stream(parts: Receiving) -> Stream:
    return Stream(parts)


def go_on(parts: Receiving, records: list[Record]) -> None:
    """After a disk that failed: the rest, and what has to be read again."""
    parts.receiver.resume()
    parts.receiver.try_deferred()
    for partition, offset in parts.receiver.take_rewinds().items():
        again = [r for r in records if r.partition == partition and r.offset >= offset]
        parts.receiver.receive(again)


def states(ledger: Ledger) -> dict[bytes, tuple[str, str]]:
    rows = ledger.reader().execute("SELECT tid, state, reason FROM incoming").fetchall()
    return {tid: (state, reason) for tid, state, reason in rows}


def newer(sent: Sent, content: bytes, by: int = 1) -> Sent:
    return replace(sent, content=content, tid=os.urandom(16), generation=sent.generation + by)


# What a published file is


def test_published_file_has_mode_mtime_and_mark(parts: Receiving, stream: Stream) -> None:
    sent = Sent(b"abcdefgh", b"d/run.trc", mode=0o777)
    stream.receive(sent)
    path = parts.root / "d" / "run.trc"
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_mtime_ns == sent.mtime_ns
    assert stat.S_IMODE((parts.root / "d").stat().st_mode) == 0o750
    with path.open("rb") as file:
        mark = read_mark(file.fileno())
    assert mark == Mark(
        lineage(TOPIC, "scope3", b"d/run.trc"), sent.generation, sent.tid, 8, sent.mtime_ns
    )
    assert mark is not None
    assert mark.fits(status)


@pytest.mark.parametrize(
    ("mode", "published"), [(0o600, 0o600), (0o4755, 0o640), (0o004, 0), (0o444, 0o440)]
)
def test_mode_is_bounded_by_the_routes(
    parts: Receiving, stream: Stream, mode: int, published: int
) -> None:
    stream.receive(Sent(b"x", mode=mode))
    assert stat.S_IMODE((parts.root / "run.trc").stat().st_mode) == published


def test_umask_changes_nothing(parts: Receiving, stream: Stream) -> None:
    old = os.umask(0o777)
    try:
        stream.receive(Sent(b"x", b"a/b/c"))
    finally:
        os.umask(old)
    modes = [parts.root / "a", parts.root / "a" / "b", parts.root / "a" / "b" / "c"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in modes] == [0o750, 0o750, 0o640]


@pytest.mark.parametrize("mtime_ns", [0, -1_000_000_001, 4_000_000_000_987_654_321])
def test_any_mtime_is_kept(parts: Receiving, stream: Stream, mtime_ns: int) -> None:
    stream.receive(Sent(b"x", mtime_ns=mtime_ns))
    assert (parts.root / "run.trc").stat().st_mtime_ns == mtime_ns


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"; rm -rf *", b"-rf", b"x" * 255, b" "])
def test_any_legal_name(parts: Receiving, stream: Stream, name: bytes) -> None:
    stream.receive(Sent(b"x", b"d/" + name))
    assert parts.visible() == {b"d/" + name: b"x"}


def test_layout_places_origins_apart(ledger: Ledger, tmp_path: Path) -> None:
    with receiving(ledger, tmp_path / "data", layout="{topic}/{origin}/{path}") as parts:
        one, other = Sent(b"1", b"a/x"), Sent(b"2", b"a/x", origin="xrd1")
        Stream(parts).receive(one, other)
        top = TOPIC.encode()
        assert parts.visible() == {top + b"/scope3/a/x": b"1", top + b"/xrd1/a/x": b"2"}


def descriptors(parts: Receiving) -> int:
    """How many descriptors are open, this thread's connection to the ledger included."""
    states(parts.ledger)
    return len(os.listdir("/proc/self/fd"))


def test_more_files_in_a_batch_than_descriptors(parts: Receiving, stream: Stream) -> None:
    sent = [Sent(b"%d" % n, b"%d" % n) for n in range(MAX_DESCRIPTORS + 20)]
    before = descriptors(parts)
    stream.receive(*sent)
    assert parts.visible() == {one.path: one.content for one in sent}
    assert descriptors(parts) <= before


def test_partials_keep_few_descriptors_open(parts: Receiving) -> None:
    sent = [Sent(b"abcdefgh", b"%d" % n) for n in range(MAX_DESCRIPTORS + 20)]
    records = [one.records(offset=2 * n) for n, one in enumerate(sent)]
    before = descriptors(parts)
    parts.receiver.receive([first for first, _ in records])
    assert descriptors(parts) <= before + MAX_DESCRIPTORS
    ends = [replace(end, offset=1000 + n) for n, (_, end) in enumerate(records)]
    parts.receiver.receive(ends)
    assert parts.visible() == {one.path: one.content for one in sent}
    assert parts.parts() == []


# Newest wins, and nothing else is replaced


def test_newer_version_replaces_the_older(parts: Receiving, stream: Stream) -> None:
    old = Sent(b"long old content")
    stream.receive(old)
    stream.receive(newer(old, b"new"))
    assert parts.visible() == {b"run.trc": b"new"}


def test_versions_in_one_batch_in_any_order(parts: Receiving, stream: Stream) -> None:
    first = Sent(b"1")
    second, third = newer(first, b"2"), newer(first, b"3", by=2)
    stream.receive(second, first, third)
    assert parts.visible() == {b"run.trc": b"3"}
    found = {tid: state for tid, (state, _) in states(parts.ledger).items()}
    assert found == {first.tid: "superseded", second.tid: "published", third.tid: "published"}


def test_older_version_never_replaces_even_when_the_newer_was_removed(
    parts: Receiving, stream: Stream
) -> None:
    old = Sent(b"old")
    stream.receive(newer(old, b"new"))
    (parts.root / "run.trc").unlink()
    stream.receive(old)
    assert parts.visible() == {}
    assert states(parts.ledger)[old.tid][0] == "superseded"


def test_removed_file_is_published_again_only_as_a_newer_version(
    parts: Receiving, stream: Stream
) -> None:
    sent = Sent(b"x")
    stream.receive(sent)
    (parts.root / "run.trc").unlink()
    stream.receive(sent)
    assert parts.visible() == {}
    stream.receive(newer(sent, b"y"))
    assert parts.visible() == {b"run.trc": b"y"}


EDITS = {
    "content": lambda path: path.write_bytes(b"an hour of work"),
    "mtime": lambda path: os.utime(path, ns=(1, 1)),
    "file": lambda path: (path.unlink(), path.write_bytes(b"made anew")),
    "symlink": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "directory": lambda path: (path.unlink(), path.mkdir()),
    "fifo": lambda path: (path.unlink(), os.mkfifo(path)),
}


def identity(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def conflict(sent: Sent) -> bytes:
    return conflict_name(sent.path, sent.tid)


def test_file_of_somebody_else_is_never_replaced(parts: Receiving, stream: Stream) -> None:
    (parts.root / "run.trc").write_bytes(b"theirs")
    sent = Sent(b"ours")
    stream.receive(sent)
    assert parts.visible() == {b"run.trc": b"theirs", conflict(sent): b"ours"}
    assert states(parts.ledger)[sent.tid][0] == "published"
    stream.receive(newer(sent, b"more"))
    assert parts.visible()[b"run.trc"] == b"theirs"
    assert sorted(parts.visible().values()) == [b"more", b"ours", b"theirs"]


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_what_changed_since_it_was_published_is_not_replaced(
    parts: Receiving, stream: Stream, edit: Callable[[Path], object]
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    edit(path)
    before = identity(path)
    later = newer(sent, b"newer")
    stream.receive(later)
    assert identity(path) == before
    assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"


def edit_when_intended(monkeypatch: pytest.MonkeyPatch, edit: Callable[[], object]) -> None:
    """Between the look and the rename are fsyncs and a transaction: seconds on a busy disk."""
    intend = incoming.intend

    def edit_and_intend(db: Any, batch: Any) -> None:
        edit()
        intend(db, batch)

    monkeypatch.setattr(incoming, "intend", edit_and_intend)


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS, some FUSE file systems and old kernels refuse both flags of renameat2."""
    monkeypatch.setattr(destination_module, "_renameat2", lambda *_: -1)
    monkeypatch.setattr(destination_module.ctypes, "get_errno", lambda: errno.EINVAL)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_while_a_batch_is_prepared_is_not_lost(
    parts: Receiving,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Path], object],
    exchange: bool,
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    seen: list[tuple[int, int, int]] = []
    edit_when_intended(monkeypatch, lambda: (edit(path), seen.append(identity(path))))
    if not exchange:
        without_exchange(monkeypatch)
    later = newer(sent, b"newer")
    stream.receive(later)
    assert [identity(path)] == seen
    assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"
    assert parts.parts() == []
    assert states(parts.ledger)[later.tid][0] == "published"


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
def test_older_version_removed_while_a_batch_is_prepared(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    sent = Sent(b"ours")
    stream.receive(sent)
    edit_when_intended(monkeypatch, (parts.root / "run.trc").unlink)
    if not exchange:
        without_exchange(monkeypatch)
    stream.receive(newer(sent, b"newer"))
    assert list(parts.visible().values()) == [b"newer"]
    assert parts.parts() == []


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_is_not_lost_when_killed_amid_an_exchange(
    tmp_path: Path, edit: Callable[[Path], object]
) -> None:
    """What came out of the exchange is somebody's work, and waits under a partial's name."""
    sent, path = Sent(b"ours"), tmp_path / "data" / "run.trc"
    later = newer(sent, b"newer")

    def life() -> None:
        with (
            running_ledger(tmp_path / "state") as ledger,
            receiving(ledger, tmp_path / "data") as parts,
        ):
            stream = Stream(parts)
            stream.receive(sent)
            rename = destination_module._renameat2

            def exchange_and_die(*args: Any) -> int:
                edit(path)
                rename(*args)
                kill_self()
                return 0

            destination_module._renameat2 = exchange_and_die  # type: ignore[assignment]
            stream.receive(later)

    assert in_child(life) == KILLED
    (part,) = (tmp_path / "data" / ".kfd").glob("*.part")
    theirs = identity(part)
    with (
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        settle(ROUTE, parts.destination, ledger)
        sweep(parts.destination, TOPIC, 0)
        Stream(parts).receive(sent, later)
        assert identity(path) == theirs
        assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"


def edit_at_the_exchange(
    monkeypatch: pytest.MonkeyPatch, edit: Callable[[], object], fails: int = -1
) -> None:
    """The last moment: after the look, before the exchange. Call number ``fails`` gives EIO."""
    rename, calls = destination_module._renameat2, iter(range(100))

    def edit_and_rename(*args: Any) -> int:
        call = next(calls)
        if call == 0:
            edit()
        if call == fails:
            raise OSError(errno.EIO, "Input/output error")
        return int(rename(*args))

    monkeypatch.setattr(destination_module, "_renameat2", edit_and_rename)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_in_the_last_moment_is_put_back(
    parts: Receiving,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Path], object],
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    seen: list[tuple[int, int, int]] = []
    edit_at_the_exchange(monkeypatch, lambda: (edit(path), seen.append(identity(path))))
    later = newer(sent, b"newer")
    stream.receive(later)
    assert [identity(path)] == seen
    assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"
    assert parts.parts() == []


def test_edit_is_not_lost_when_the_disk_fails_amid_an_exchange(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    edit_at_the_exchange(monkeypatch, lambda: path.write_bytes(b"an hour of work"), fails=1)
    later = newer(sent, b"newer")
    start = stream.offset
    with pytest.raises(DiskError):
        stream.receive(later)
    go_on(parts, later.records(offset=start))
    assert parts.visible()[b"run.trc"] == b"an hour of work"
    assert b"newer" in parts.visible().values()


def test_name_taken_while_a_batch_is_prepared(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_when_intended(monkeypatch, lambda: (parts.root / "run.trc").write_bytes(b"theirs"))
    sent = Sent(b"ours")
    stream.receive(sent)
    assert parts.visible() == {b"run.trc": b"theirs", conflict(sent): b"ours"}
    row = parts.ledger.reader().execute("SELECT name FROM incoming").fetchone()
    assert row == (conflict(sent),)


def test_file_of_another_origin_is_not_replaced(parts: Receiving, stream: Stream) -> None:
    one = Sent(b"one")
    stream.receive(one)
    other = Sent(b"other", origin="xrd1", generation=GENERATION + 5)
    stream.receive(other)
    assert parts.visible() == {b"run.trc": b"one", conflict(other): b"other"}


def test_two_origins_with_one_name_in_one_batch(parts: Receiving, stream: Stream) -> None:
    one, other = Sent(b"one"), Sent(b"other", origin="xrd1")
    stream.receive(one, other)
    assert parts.visible() == {b"run.trc": b"one", conflict(other): b"other"}


def test_file_and_directory_of_one_name_in_one_batch(parts: Receiving, stream: Stream) -> None:
    file, below = Sent(b"file", b"a"), Sent(b"below", b"a/b")
    stream.receive(file, below)
    assert parts.visible() == {conflict(file): b"file", b"a/b": b"below"}
    late = Sent(b"late", b"a/b/c")
    stream.receive(late)
    state, reason = states(parts.ledger)[late.tid]
    assert state == "quarantined"
    assert "Not a directory" in reason
    assert parts.parts() == []


def test_foreign_file_under_the_conflict_name_is_not_taken_for_ours(
    parts: Receiving, stream: Stream
) -> None:
    sent = Sent(b"ours")
    (parts.root / "run.trc").write_bytes(b"theirs")
    (parts.root / os.fsdecode(conflict(sent))).write_bytes(b"theirs too")
    stream.receive(sent)
    assert set(parts.visible().values()) >= {b"theirs", b"theirs too"}
    assert b"ours" in parts.visible().values() or states(parts.ledger)[sent.tid][0] != "published"


@pytest.mark.parametrize("depth", [b"link/x", b"d/link/x", b"link/deep/x"])
def test_no_symlink_is_followed(
    parts: Receiving, stream: Stream, tmp_path: Path, depth: bytes
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (parts.root / "d").mkdir()
    for place in (parts.root, parts.root / "d"):
        (place / "link").symlink_to(outside)
    sent = Sent(b"x", depth)
    stream.receive(sent, Sent(b"fine", b"fine"))
    assert list(outside.iterdir()) == []
    assert parts.visible()[b"fine"] == b"fine"
    assert states(parts.ledger)[sent.tid][0] == "quarantined"


def test_link_to_a_file_is_not_followed(parts: Receiving, stream: Stream, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    (parts.root / "run.trc").symlink_to(outside)
    sent = Sent(b"ours")
    stream.receive(sent)
    assert outside.read_bytes() == b"outside"
    assert (parts.root / os.fsdecode(conflict(sent))).read_bytes() == b"ours"


def test_name_too_long_with_its_origin_is_quarantined(ledger: Ledger, tmp_path: Path) -> None:
    with receiving(ledger, tmp_path / "data", layout="{origin}/{path}") as parts:
        deep, fine = Sent(b"x", b"/".join([b"d" * 203] * 5)), Sent(b"y", b"y")
        Stream(parts).receive(deep, fine)
        assert parts.visible() == {b"scope3/y": b"y"}
        state, reason = states(ledger)[deep.tid]
        assert (state, reason.startswith("its name can't be used here")) == ("quarantined", True)
        assert parts.parts() == []


def test_lost_ledger_takes_the_mark_for_proof(tmp_path: Path) -> None:
    sent = Sent(b"x")
    with (
        running_ledger(tmp_path / "first") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        Stream(parts).receive(sent, Sent(b"old", b"other"))
        inode = (parts.root / "run.trc").stat().st_ino
    with (
        running_ledger(tmp_path / "second") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        older = replace(sent, content=b"older", tid=os.urandom(16), generation=GENERATION - 1)
        Stream(parts).receive(older, sent, newer(Sent(b"old", b"other"), b"new"))
        assert parts.visible() == {b"run.trc": b"x", b"other": b"new"}
        assert (parts.root / "run.trc").stat().st_ino == inode
        found = {tid: state for tid, (state, _) in states(ledger).items()}
        assert (found[older.tid], found[sent.tid]) == ("superseded", "published")


# File systems that can do less


def without_marks(tmp_path: Path) -> Any:
    """A file system that keeps no user xattrs."""
    return mounted(tmp_path / "disk", "ramfs", "mode=755")


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


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_file_system_without_noreplace(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """NFS and some FUSE file systems refuse the flag; link and unlink do the same."""
    monkeypatch.setattr(destination_module, "_renameat2", lambda *_: -1)
    monkeypatch.setattr(destination_module.ctypes, "get_errno", lambda: code)
    (parts.root / "taken").write_bytes(b"theirs")
    sent, other = Sent(b"x"), Sent(b"ours", b"taken")
    stream.receive(sent, other)
    assert parts.visible() == {b"run.trc": b"x", b"taken": b"theirs", conflict(other): b"ours"}
    assert parts.parts() == []
    assert (parts.root / "run.trc").stat().st_nlink == 1


def test_new_partial_does_not_write_into_a_published_file(parts: Receiving) -> None:
    """A link made and the partial's name not yet removed: both names are one file."""
    parts.receiver.receive(Sent(b"abcdefgh").records()[:1])
    (part,) = (parts.root / ".kfd").glob("*.part")
    os.link(part, parts.root / "published")
    again = Sent(b"ABCDEFGH", tid=bytes.fromhex(part.name[:32]))
    parts.receiver.drop([0])
    parts.receiver.take(0, TOPIC_ID, 0)
    os.link(parts.root / "published", part)
    parts.receiver.receive(again.records()[:1])
    assert (parts.root / "published").read_bytes() == b"abcd"


# Disks that fail


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
            fail_once(patch, destination_module if call == "_renameat2" else os, call, place, code)
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


# Killed between any two steps


class Killer:
    """Counts what changes disk or ledger, and kills the process before the n-th such step."""

    CALLS = (
        *("open", "pwrite", "fchmod", "setxattr", "utime", "fsync", "mkdir", "rename"),
        *("link", "unlink", "close", "stat"),
    )

    def __init__(self, ledger: Ledger, at: int) -> None:
        self.count = 0
        self._at = at
        for name in self.CALLS:
            setattr(os, name, self._counted(getattr(os, name)))
        destination_module._renameat2 = self._counted(destination_module._renameat2)  # type: ignore[assignment]
        ledger.write_patiently = self._counted(ledger.write_patiently)  # type: ignore[method-assign]

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **keys: Any) -> Any:
            if self.count == self._at:
                kill_self()
            self.count += 1
            return call(*args, **keys)

        return counted


def without_noreplace() -> None:
    """The file system knows no RENAME_NOREPLACE. For a child only."""
    destination_module._renameat2 = lambda *_: -1  # type: ignore[assignment]
    destination_module.ctypes.get_errno = lambda: errno.EINVAL


class Scene:
    """A batch with a bit of everything, and a directory in which some of it was there before."""

    def __init__(self) -> None:
        self.before = [Sent(b"old version", b"d/replaced"), Sent(b"newest", b"superseded")]
        self.batch = [
            newer(self.before[0], b"new version"),
            replace(self.before[1], content=b"late", tid=os.urandom(16), generation=1),
            Sent(b"brand new", b"made/for/it"),
            Sent(b"", b"empty"),
            Sent(b"evades", b"taken"),
            Sent(b"bad", b"quarantined/below"),
        ]
        self.after = {
            b"d/replaced": b"new version",
            b"superseded": b"newest",
            b"made/for/it": b"brand new",
            b"empty": b"",
            b"taken": b"theirs",
            conflict_name(b"taken", self.batch[4].tid): b"evades",
            b"quarantined": b"a file",
        }
        self.earlier = {
            b"d/replaced": b"old version",
            b"superseded": b"newest",
            b"taken": b"theirs",
            b"quarantined": b"a file",
        }

    def life(self, top: Path, at: int, prepare: Callable[[], None]) -> int:
        """A daemon's life that is killed before step ``at``; its number of steps if it isn't."""
        return in_child(lambda: self._live(top, at, prepare))

    def _live(self, top: Path, at: int, prepare: Callable[[], None]) -> None:
        with (
            running_ledger(top / "state") as ledger,
            receiving(ledger, top / "data") as parts,
        ):
            prepare()
            stream = Stream(parts)
            stream.receive(*self.before)
            (parts.root / "taken").write_bytes(b"theirs")
            (parts.root / "quarantined").write_bytes(b"a file")
            killer = Killer(ledger, at)
            stream.receive(*self.batch)
            os._exit(killer.count)

    def live_again(self, top: Path) -> None:
        """The next life: settle, then read again what isn't known to have ended."""
        with (
            running_ledger(top / "state") as ledger,
            receiving(ledger, top / "data") as parts,
        ):
            settle(ROUTE, parts.destination, ledger)
            assert incoming.intents(ledger.reader(), ROUTE) == []
            sweep(parts.destination, TOPIC, 0)
            published = self.published(ledger)
            for name, content in parts.visible().items():
                assert content in (self.earlier.get(name), self.after.get(name))
                if name not in self.earlier:
                    assert name in published  # nothing is seen that isn't on record
            Stream(parts).receive(*self.before, *self.batch)
            assert parts.visible() == self.after
            assert parts.parts() == []
            found = {tid: state for tid, (state, _) in states(ledger).items()}
            wanted = ["published", "superseded", "published", "published", "published"]
            assert [found[one.tid] for one in self.batch] == [*wanted, "quarantined"]
            assert self.published(ledger) >= published

    @staticmethod
    def published(ledger: Ledger) -> set[bytes]:
        rows = ledger.reader().execute("SELECT name FROM incoming WHERE state = 'published'")
        return {name for (name,) in rows}


@pytest.mark.parametrize("prepare", [lambda: None, without_noreplace], ids=["rename", "link"])
def test_killed_between_any_two_steps(tmp_path: Path, prepare: Callable[[], None]) -> None:
    scene = Scene()
    at = 0
    while (code := scene.life(tmp_path / str(at), at, prepare)) == KILLED:
        scene.live_again(tmp_path / str(at))
        at += 1
    assert code == at > 30
    scene.live_again(tmp_path / str(at))


def test_killed_without_marks(tmp_path: Path) -> None:
    scene = Scene()
    with without_marks(tmp_path) as disk:
        at = 0
        while (code := scene.life(disk / str(at), at, lambda: None)) == KILLED:
            scene.live_again(disk / str(at))
            at += 3
        assert code > 30


def test_interrupted_publication_gives_way_to_what_took_its_name(
    tmp_path: Path,
) -> None:
    """Killed before the rename; somebody makes a file of that name; then the next start."""
    sent = Sent(b"ours")

    def life() -> None:
        with (
            running_ledger(tmp_path / "state") as ledger,
            receiving(ledger, tmp_path / "data") as parts,
        ):
            destination_module._renameat2 = lambda *_: kill_self()  # type: ignore[assignment]
            Stream(parts).receive(sent)

    assert in_child(life) == KILLED
    (tmp_path / "data" / "run.trc").write_bytes(b"theirs")
    with (
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        settle(ROUTE, parts.destination, ledger)
        assert states(ledger) == {}
        sweep(parts.destination, TOPIC, 0)
        Stream(parts).receive(sent)
        assert parts.visible() == {b"run.trc": b"theirs", conflict(sent): b"ours"}


# Marks


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
