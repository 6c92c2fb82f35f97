"""The watcher on a real file system: what settles, when, and under which name."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path

import pytest

from kfd.config.model import Upload
from tests.support import eventually
from tests.watching import EXCLUDE, LONG_AGO, NEVER, put, watched


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    return tmp_path / "lab"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


# What settles at once


def test_closed_after_writing(lab: Path) -> None:
    with watched(lab, settle=NEVER) as seen:
        with (lab / "run.trc").open("wb") as file:
            file.write(b"half")
            file.flush()
            put(lab / "other")
            seen.saw("other")
            assert seen.sink.paths() == {b"other"}
            file.write(b" and half")
        [version] = seen.saw_times("run.trc", 1)
    status = (lab / "run.trc").stat()
    assert (version.device, version.inode) == (status.st_dev, status.st_ino)
    assert (version.size, version.mtime_ns) == (13, status.st_mtime_ns)
    assert (version.mode, version.ctime_ns) == (status.st_mode & 0o7777, status.st_ctime_ns)
    assert version.source == os.fsencode(lab / "run.trc")


def test_renamed_into_the_tree(lab: Path, outside: Path) -> None:
    with watched(lab, settle=NEVER) as seen:
        put(outside / "run.trc").rename(lab / "run.trc")
        put(lab / "b.part").rename(lab / "b")
        seen.saw("run.trc", "b")
        assert seen.sink.paths() == {b"run.trc", b"b"}


def test_old_files_that_are_there(lab: Path) -> None:
    (lab / "deep" / "er").mkdir(parents=True)
    put(lab / "a", mtime=LONG_AGO)
    put(lab / "deep" / "er" / "b", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw("a", "deep/er/b")


def test_each_new_version(lab: Path) -> None:
    with watched(lab, settle=NEVER) as seen:
        put(lab / "log", b"")
        seen.saw_times("log", 1)
        for size in (1, 2, 3):
            with (lab / "log").open("ab") as file:
                file.write(b"x")
            seen.saw_times("log", size + 1)
        assert [version.size for version in seen.sink.of("log")] == [0, 1, 2, 3]


def test_reading_is_no_change(lab: Path) -> None:
    put(lab / "a", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw("a")
        (lab / "a").read_bytes()
        put(lab / "b")
        seen.saw("b")
        assert len(seen.sink.of("a")) == 1


# What has to stand still


def test_fresh_file_of_a_scan_waits(lab: Path) -> None:
    put(lab / "fresh")
    put(lab / "old", mtime=LONG_AGO)
    with watched(lab, settle=NEVER) as seen:
        seen.saw("old")
        assert seen.sink.paths() == {b"old"}
    with watched(lab, settle=0.2) as seen:
        seen.saw("fresh", "old")


def test_slow_writer_is_not_taken_half_way(lab: Path) -> None:
    with (lab / "slow").open("wb", buffering=0) as file:
        file.write(b"x")
        with watched(lab, settle=1.0) as seen:
            end = time.monotonic() + 3.5
            while time.monotonic() < end:
                file.write(b"x")
                time.sleep(0.02)  # the writer's pace
            assert not seen.sink.paths()
            [version] = seen.saw_times("slow", 1)
            assert version.size == os.fstat(file.fileno()).st_size


def test_mtime_in_the_future(lab: Path) -> None:
    put(lab / "ahead", mtime=time.time() + 1e6)
    with watched(lab, settle=0.2) as seen:
        seen.saw("ahead")


def test_hard_links(lab: Path, outside: Path) -> None:
    put(outside / "old", mtime=LONG_AGO)
    put(outside / "fresh")
    with watched(lab, settle=0.2) as seen:
        os.link(outside / "old", lab / "old")
        os.link(outside / "fresh", lab / "fresh")
        seen.saw("old", "fresh")


def test_vanished_is_forgotten(lab: Path) -> None:
    with (lab / "gone").open("wb"), watched(lab, settle=0.3) as seen:
        (lab / "gone").unlink()
        with (lab / "also").open("wb"):
            (lab / "also").unlink()
        put(lab / "waits", mtime=time.time())
        seen.scanned_again()
        seen.saw("waits")
        seen.nothing_waits()
        assert seen.sink.paths() == {b"waits"}
        assert not seen.health.problems()


def test_closed_while_it_waits(lab: Path) -> None:
    with watched(lab, settle=NEVER) as seen:
        with (lab / "a").open("wb"):
            eventually(lambda: seen.watcher._intake.next_due() < math.inf)
        seen.saw("a")
        seen.nothing_waits()


def test_looked_at_again_when_it_changed_while_read(lab: Path) -> None:
    put(lab / "a")
    with watched(lab, settle=0.2) as seen:
        seen.saw("a")
        (lab / "a").touch()  # the last close was before: nothing tells of this
        seen.watcher.look_again(b"a")
        seen.saw_times("a", 2)


# Directories


def test_directories_with_files_made_at_once(lab: Path) -> None:
    """The file may be there before the kernel is asked to watch its directory."""

    def make(worker: int) -> None:
        for turn in range(100):
            directory = lab / f"{worker}-{turn}" / "b" / "c"
            directory.mkdir(parents=True)
            put(directory / "f", b"x" * turn)
            put(directory.parent / "g", b"x" * turn)

    with watched(lab, settle=0.3) as seen:
        workers = [threading.Thread(target=make, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        there = [path for path in lab.rglob("*") if path.is_file()]
        assert len(there) == 800
        seen.saw(*(os.fsencode(path.relative_to(lab)) for path in there))
        for path in there:
            last = seen.sink.of(os.fsencode(path.relative_to(lab)))[-1]
            assert (last.size, last.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_directory_renamed_in(lab: Path, outside: Path) -> None:
    (outside / "run" / "sub").mkdir(parents=True)
    names = [f"run/{number}" for number in range(1000)] + ["run/sub/last"]
    for name in names:
        put(outside / name, mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        (outside / "run").rename(lab / "run")
        seen.saw(*names)
        put(lab / "run" / "sub" / "later")
        seen.saw("run/sub/later")
        assert len(seen.sink.versions) == 1002
        assert seen.sink.largest_batch <= 1000


def test_directory_renamed_within(lab: Path) -> None:
    (lab / "a" / "sub").mkdir(parents=True)
    put(lab / "a" / "sub" / "f", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw("a/sub/f")
        (lab / "a").rename(lab / "b")
        seen.saw("b/sub/f")
        put(lab / "b" / "sub" / "g")
        seen.saw("b/sub/g")
        assert seen.sink.paths() == {b"a/sub/f", b"b/sub/f", b"b/sub/g"}


def test_directory_moved_out_is_not_watched_any_more(lab: Path, outside: Path) -> None:
    (lab / "a" / "sub").mkdir(parents=True)
    with watched(lab, settle=NEVER) as seen:
        (lab / "a").rename(outside / "a")
        eventually(lambda: seen.directories() == {b""})
        put(lab / "after")
        seen.saw("after")


def test_namesake_of_a_directory_that_was_moved_out(lab: Path, outside: Path) -> None:
    """watchdog's own recursive observer dies of this sequence."""
    (lab / "a").mkdir()
    with watched(lab, settle=NEVER) as seen:
        (lab / "a").rename(outside / "a")
        (lab / "a").mkdir()
        put(lab / "a" / "f")
        seen.scanned_again()
        (lab / "a" / "f").unlink()
        (lab / "a").rmdir()
        (outside / "a").rmdir()
        (lab / "a").mkdir()
        eventually(lambda: seen.directories() == {b"", b"a"})
        put(lab / "a" / "g")
        seen.saw("a/g")


# Which files


def test_any_legal_name(lab: Path) -> None:
    names = [
        b"\xff\xfe",
        b"a;b",
        b"\n",
        b"new\nline",
        b"tab\t ",
        b"-",
        b"{path}",
        "\u202e".encode(),
    ]
    directory = os.fsencode(lab)
    os.mkdir(directory + b"/d\xff")
    put(directory + b"/before\xff", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw(b"before\xff")  # d, too, is watched by then
        for name in names:
            put(directory + b"/" + name)
            put(directory + b"/d\xff/" + name)
        seen.saw(*names, *(b"d\xff/" + name for name in names))


def test_only_regular_files_of_the_tree(lab: Path, outside: Path) -> None:
    put(outside / "secret", mtime=LONG_AGO)
    (lab / "file").symlink_to(outside / "secret")
    (lab / "directory").symlink_to(outside)
    os.mkfifo(lab / "pipe")
    with watched(lab, settle=0.2) as seen:
        (lab / "file2").symlink_to(outside / "secret")
        (lab / "directory2").symlink_to(outside)
        put(outside / "more")
        put(lab / "real")
        seen.saw("real")
        seen.scanned_again()
        seen.nothing_waits()
        assert seen.sink.paths() == {b"real"}


def test_directory_that_is_a_symbolic_link(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(lab)
    with watched(tmp_path / "link", settle=NEVER) as seen:
        put(lab / "a")
        seen.saw("a")


def test_include_and_exclude(lab: Path) -> None:
    (lab / ".git" / "deep").mkdir(parents=True)
    put(lab / ".git" / "deep" / "x.trc", mtime=LONG_AGO)
    put(lab / "x.log", mtime=LONG_AGO)
    put(lab / "x.tmp", mtime=LONG_AGO)
    with watched(lab, include=["*.trc"], settle=NEVER / 2) as seen:
        put(lab / ".git" / "y.trc")
        put(lab / "~y.trc")
        put(lab / "y.trc")
        seen.saw("y.trc")
        seen.scanned_again()
        assert seen.sink.paths() == {b"y.trc"}
        assert seen.directories() == {b""}


def test_own_directory_is_never_sent(lab: Path) -> None:
    (lab / ".kfd").mkdir()
    (lab / "sub" / ".kfd").mkdir(parents=True)
    put(lab / ".kfd" / "owner", mtime=LONG_AGO)
    put(lab / "sub" / ".kfd" / "theirs", mtime=LONG_AGO)
    with watched(lab, exclude=[], settle=NEVER / 2) as seen:
        put(lab / ".kfd" / "x.part")
        seen.saw("sub/.kfd/theirs")
        seen.scanned_again()
        assert seen.sink.paths() == {b"sub/.kfd/theirs"}


def test_what_cannot_be_a_wire_path_is_told_once(lab: Path) -> None:
    deepest = lab.joinpath(*["d"] * 32)
    deepest.mkdir(parents=True)
    put(deepest / "too deep", mtime=LONG_AGO)
    put(deepest.parent / "just", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw(b"d/" * 31 + b"just")
        seen.problem("32 components")
        [problem] = seen.health.problems()
        assert problem.text.startswith("names that can't be sent: 1, such as d/d/")
        deepest.rename(lab / "d" / "shallow")
        seen.saw("d/shallow/too deep")
        seen.scanned_again()
        seen.no_problem()


# Scans


def test_rescan_finds_what_nothing_told_of(lab: Path) -> None:
    put(lab / "a", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw("a")
        os.utime(lab / "a", (LONG_AGO, LONG_AGO + 1))
        seen.watcher.rescan()
        assert len(seen.saw_times("a", 2)) == 2


def test_scans_again_by_itself(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kfd.daemon.watcher.watcher._SCAN_EVERY", 0.1)
    put(lab / "a", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2) as seen:
        seen.saw("a")
        os.utime(lab / "a", (LONG_AGO, LONG_AGO + 1))
        seen.saw_times("a", 2)


def test_new_files_go_before_the_rest_of_a_scan(lab: Path) -> None:
    for number in range(5000):
        put(lab / f"{number}", mtime=LONG_AGO)
    with watched(lab, settle=NEVER / 2, prepare=lambda one: one._intake._sink.gate.clear()) as seen:
        put(lab / "new")  # the scan waits for the sink meanwhile
        seen.sink.gate.set()
        seen.saw("new", "4999", "0")
        first = [version.path for version in seen.sink.versions].index(b"new")
        assert first <= 3000


def test_more_candidates_than_there_is_room_for(lab: Path, outside: Path) -> None:
    for number in range(3000):
        put(lab / f"{number}")
        put(outside / f"{number}")
    with watched(lab, settle=0.2, prepare=lambda one: _limit(one, 1200)) as seen:
        (lab / "sub").mkdir()
        for number in range(3000):
            os.link(outside / f"{number}", lab / "sub" / f"{number}")
        seen.saw(*(f"{number}" for number in range(3000)))
        seen.saw(*(f"sub/{number}" for number in range(3000)))


def test_more_new_files_at_once_than_there_is_room_for(lab: Path, outside: Path) -> None:
    put(lab / "first", mtime=LONG_AGO)
    for number in range(3000):
        put(outside / f"{number}")
    with watched(lab, settle=0.5, prepare=lambda one: _limit(one, 1200)) as seen:
        seen.saw("first")
        with seen.watcher._signs._news:  # so that they come faster than any can settle
            for number in range(3000):
                os.link(outside / f"{number}", lab / f"{number}")
                os.utime(lab / f"{number}")
        seen.saw(*(f"{number}" for number in range(3000)))


def test_new_directories_are_watched_while_scans_have_to_wait(lab: Path) -> None:
    for number in range(2500):
        put(lab / f"{number}")
    with watched(lab, settle=NEVER, prepare=lambda one: _limit(one, 1200)) as seen:
        eventually(lambda: seen.watcher._intake.full)
        (lab / "later" / "sub").mkdir(parents=True)
        eventually(lambda: seen.directories() == {b"", b"later", b"later/sub"})
        put(lab / "later" / "sub" / "a")
        seen.saw("later/sub/a")


def _limit(watcher: object, candidates: int) -> None:
    watcher._intake._candidates._limit = candidates  # type: ignore[attr-defined]


def test_polling(lab: Path) -> None:
    put(lab / "a", mtime=LONG_AGO)
    with watched(lab, watch="poll", poll_every=0.1, settle=0.3) as seen:
        seen.saw("a")
        (lab / "sub").mkdir()
        put(lab / "sub" / "b")
        seen.saw("sub/b")
        put(lab / "a", b"changed")
        assert [version.size for version in seen.saw_times("a", 2)] == [4, 7]
        assert {(one.device, one.inode) for one in seen.sink.versions} == {(0, 0)}
        assert not seen.watcher.compares_inodes
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.endswith("-inotify")]


def test_default_patterns_are_those_of_the_configuration() -> None:
    fields = Upload.model_fields
    assert tuple(fields["include"].default) == ("*",)
    assert tuple(fields["exclude"].default) == EXCLUDE
