"""When a file is taken: closed, renamed, or standing still for long enough."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from tests.support import eventually
from tests.watching import LONG_AGO, NEVER, put, watched


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
