"""Which files are found, and under which names."""

from __future__ import annotations

import os
from pathlib import Path

from kfd.config.model import Upload
from tests.watching import EXCLUDE, LONG_AGO, NEVER, put, watched


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


def test_default_patterns_are_those_of_the_configuration() -> None:
    fields = Upload.model_fields
    assert tuple(fields["include"].default) == ("*",)
    assert tuple(fields["exclude"].default) == EXCLUDE
