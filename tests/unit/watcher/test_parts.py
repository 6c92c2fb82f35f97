"""The parts of the watcher that decide without a thread, each on its own."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.watcher import signs as signs_module
from kfd.daemon.watcher.candidates import Candidates
from kfd.daemon.watcher.mounts import Mount, find_mount, mount_of
from kfd.daemon.watcher.scans import Scan, Scans
from kfd.daemon.watcher.signs import Sign, Signs
from kfd.daemon.watcher.sweep import Found, look_up, walk
from kfd.daemon.watcher.tally import Tally
from kfd.selection import Selection
from tests.watching import EXCLUDE, put

DEFAULT = Selection(["*"], EXCLUDE)


@pytest.mark.parametrize(
    "path",
    [b"a", b"catalog.csv", b"blog/x.tif", b"a/b/c.trc", b"\xff", b"\nx", b"a.tmp\n", b"tmp", b"a~"],
)
def test_taken_by_default(path: bytes) -> None:
    assert DEFAULT.takes(path)


@pytest.mark.parametrize(
    "path",
    [b".a", b"a/.b", b".a/b", b"~a", b"a.tmp", b"\xff.part", b"new\nline.tmp", b"x.part/y"],
)
def test_not_taken_by_default(path: bytes) -> None:
    assert not DEFAULT.takes(path)


def test_include_and_exclude_are_as_in_git() -> None:
    selection = Selection(["*.trc", "!draft.trc", "/raw/"], ["old/", "*.bak", "!keep.bak"])
    taken = [b"a.trc", b"x/a.trc", b"raw/b", b"raw/keep.bak", b"old"[:2] + b".trc"]
    assert [path for path in taken if not selection.takes(path)] == []
    left = [b"a", b"draft.trc", b"x/raw/b", b"old/a.trc", b"x/old/keep.bak.trc", b"raw/a.bak"]
    assert [path for path in left if selection.takes(path)] == []
    assert selection.enters(b"x/y")
    assert not selection.enters(b"x/old")
    assert not selection.enters(b"x/old/y")


def test_own_directory_is_not_entered_whatever_the_patterns() -> None:
    everything = Selection(["*"], [])
    assert not everything.enters(b".kfd")
    assert not everything.takes(b".kfd/x")
    assert everything.takes(b"a/.kfd/x")


TABLE = rb"""22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 28 0:50 / /srv/with\040space rw shared:2 - nfs4 host:/export rw
41 28 0:51 / /mnt rw - autofs systemd-1 rw
42 41 0:52 / /mnt rw master:3 propagate_from:2 - cifs //host/share rw
43 28 0:53 / /home/x/remote rw - fuse.sshfs x@host: rw
"""


@pytest.mark.parametrize(
    ("path", "mount", "network"),
    [
        (b"/srv/with space/a", Mount(b"/srv/with space", "nfs4"), True),
        (b"/srv/with spaces", Mount(b"/", "ext4"), False),
        (b"/mnt", Mount(b"/mnt", "cifs"), True),
        (b"/home/x/remote/y", Mount(b"/home/x/remote", "fuse.sshfs"), True),
        (b"/", Mount(b"/", "ext4"), False),
    ],
)
def test_mount_of_a_directory(path: bytes, mount: Mount, network: bool) -> None:
    assert find_mount(path, TABLE) == mount
    assert mount.network is network


def test_mount_table_of_this_machine() -> None:
    assert mount_of(b"/proc/self") == Mount(b"/proc", "proc")
    assert mount_of(b"/").point == b"/"


def _version(path: bytes, size: int = 0) -> FileVersion:
    return FileVersion(path, b"/" + path, 1, 2, size, 3, 0o644, 4)


def test_candidate_that_is_found_again_goes_on_waiting() -> None:
    waiting = Candidates(10)
    waiting.add(_version(b"a"), 5.0)
    waiting.add(replace(_version(b"a"), mode=0o600, ctime_ns=9), 7.0)
    assert waiting.next_due() == 5.0
    waiting.add(_version(b"a", size=1), 8.0)
    assert waiting.next_due() == 8.0
    assert waiting.due(7.9, 10) == []
    assert waiting.due(8.0, 10) == [b"a"]


@pytest.mark.parametrize("field", ["size", "mtime_ns", "inode", "device"])
def test_candidate_that_changed_waits_again(field: str) -> None:
    waiting = Candidates(10)
    waiting.add(_version(b"a"), 1.0)
    waiting.add(_version(b"b"), 2.0)
    changed = replace(_version(b"a"), **{field: 77})
    assert not waiting.stands(changed, 3.0)
    assert waiting.due(2.5, 10) == [b"b"]
    assert waiting.stands(changed, 9.0)
    assert waiting.stands(_version(b"b"), 9.0)
    assert waiting.next_due() == math.inf


def test_candidates_are_bounded() -> None:
    waiting = Candidates(2)
    assert waiting.add(_version(b"a"), 1.0)
    assert waiting.add(_version(b"b"), 1.0)
    assert not waiting.add(_version(b"c"), 1.0)
    assert waiting.add(_version(b"b", size=9), 2.0)
    assert waiting.room == 0


def test_last_sign_of_a_file_counts() -> None:
    signs = Signs()
    signs.file(b"a", Sign.CLOSED)
    signs.file(b"b", Sign.FOUND)
    signs.file(b"a", Sign.FOUND)
    signs.file(b"b", Sign.CLOSED)
    assert signs.take(1).files == {b"a": Sign.FOUND}
    assert signs.take(9).files == {b"b": Sign.CLOSED}
    assert signs.take(9).files == {}


def test_signs_are_bounded_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_module, "_LIMIT", 3)
    signs = Signs()
    signs.directory(b"d")
    signs.left(b"e")
    signs.file(b"a", Sign.CLOSED)
    assert not signs.take(0).lost
    for name in (b"b", b"c", b"d", b"e", b"f"):
        signs.file(name, Sign.CLOSED)
    heard = signs.take(9)
    assert heard.lost
    assert len(heard.files) <= 3
    assert not signs.take(9).lost


def test_wait_for_signs_ends_at_once_where_there_are_some() -> None:
    signs = Signs()
    for give in (signs.wake, signs.rescan, signs.lost, lambda: signs.left(b"a")):
        give()
        signs.wait(NEVER_ENDING)
        signs.take(1)


NEVER_ENDING = 3600.0


def _found(root: int, failures: list[bytes]) -> list[Found]:
    return list(walk(root, b"", lambda _: True, lambda path, _: failures.append(path)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    put(tmp_path / "secret" / "f")
    put(tmp_path / "tree" / "a" / "f")
    return tmp_path / "tree"


def test_walk_never_follows_a_symbolic_link(tree: Path) -> None:
    """Nor where a directory is swapped for a link after it was seen as a directory."""
    root = os.open(tree, os.O_RDONLY)

    def swap(directory: bytes) -> bool:
        if directory == b"a":
            (tree / "a").rename(tree.parent / "elsewhere")
            (tree / "a").symlink_to(tree.parent / "secret")
        return True

    paths = [found.path for found in walk(root, b"", swap, lambda *_: None)]
    assert paths == [b"a"]
    assert list(walk(root, b"a", lambda _: True, lambda *_: None)) == []
    assert list(look_up(root, [b"a/f"], lambda *_: None)) == []
    os.close(root)


def test_walk_passes_over_what_vanishes(tree: Path) -> None:
    root = os.open(tree, os.O_RDONLY)
    failures: list[bytes] = []
    walking = walk(root, b"", lambda _: True, lambda path, _: failures.append(path))
    assert next(walking).path == b"a"
    (tree / "a" / "b").rmdir()
    (tree / "a" / "f").unlink()
    (tree / "a").rmdir()
    list(walking)
    assert failures == []
    os.close(root)


def test_walk_leaves_no_descriptor_open(tree: Path) -> None:
    root = os.open(tree, os.O_RDONLY)
    before = os.listdir("/proc/self/fd")
    walking = walk(root, b"", lambda _: True, lambda *_: None)
    next(walking)
    walking.close()
    assert {found.path for found in _found(root, [])} == {b"a", b"a/b", b"a/f"}
    assert [path for path, _ in look_up(root, [b"a/f", b"a/no", b"a"], lambda *_: None)] == [
        b"a/f",
        b"a",
    ]
    assert os.listdir("/proc/self/fd") == before
    os.close(root)


def test_walk_enters_only_where_it_is_told(tree: Path) -> None:
    root = os.open(tree, os.O_RDONLY)
    paths = {found.path for found in walk(root, b"a", lambda path: path != b"a/b", lambda *_: None)}
    assert paths == {b"a/b", b"a/f"}
    assert list(walk(root, b"a", lambda _: False, lambda *_: None)) == []
    os.close(root)


def test_scan_of_a_new_directory_goes_before_the_full_one() -> None:
    steps: list[bytes] = []

    def scan(top: bytes) -> Scan:
        for _ in range(2):
            steps.append(top)
            yield

    scans = Scans(scan, lambda: 3600.0)
    assert scans.due() == math.inf
    scans.ask_for_all()
    scans.advance()
    scans.ask_for(b"new")
    scans.ask_for_all()
    while scans.due() < 1e9 and len(steps) < 6:
        scans.advance()
    assert steps == [b"", b"new", b"new", b"", b"", b""]  # the second full one was asked for
    scans.abandon()
    assert scans.due() == math.inf


def test_tally_reports_at_once_then_once_a_scan() -> None:
    health = Health()
    tally = Tally(health, "lab", "names", "bad names", "rename them")
    tally.restart()
    tally.note(b"\xff", "why")
    tally.note(b"b", "why")
    assert [problem.text for problem in health.problems()] == ["bad names: 1, such as \\xff: why"]
    tally.conclude()
    assert [problem.text for problem in health.problems()] == ["bad names: 2, such as \\xff: why"]
    tally.restart()
    tally.conclude()
    assert health.problems() == []
