"""Scans: what nothing told of is found, and new files go first."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.support import eventually
from tests.watching import LONG_AGO, NEVER, put, watched


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
