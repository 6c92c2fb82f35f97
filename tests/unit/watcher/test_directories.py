"""Directories that are made, renamed and moved while they are watched."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tests.support import eventually
from tests.watching import LONG_AGO, NEVER, put, watched


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
