"""Delivered files are deleted or moved; what changed since stays."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kfd.config.values import Then
from kfd.paths import conflict_name
from tests.parts import visible
from tests.unit.disposal.files import (
    DELETE,
    NEW,
    PATH,
    TID,
    change_content,
    dispose,
    killed_at,
    left_over,
    sent,
)


def test_delete(uploads: Path) -> None:
    assert dispose(uploads, DELETE, sent(uploads)) == [True]
    assert visible(uploads) == {}
    assert left_over(uploads) == []


def test_move_keeps_path_mode_and_times(uploads: Path, target: Path) -> None:
    file = uploads / "d" / "run.trc"
    file.chmod(0o604)
    os.utime(file, ns=(1, 1_600_000_000_123_456_789))
    assert dispose(uploads, Then("move", target), sent(uploads)) == [True]
    assert (visible(uploads), visible(target)) == ({}, {PATH: b"content"})
    status = (target / "d" / "run.trc").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o604, 1_600_000_000_123_456_789)
    assert left_over(uploads) == []


def test_move_replaces_nothing(uploads: Path, target: Path) -> None:
    (target / "d").mkdir(parents=True)
    (target / "d" / "run.trc").write_bytes(b"another")
    assert dispose(uploads, Then("move", target), sent(uploads)) == [True]
    other = b"d/" + conflict_name(b"run.trc", TID)
    assert visible(target) == {PATH: b"another", other: b"content"}


def replace(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_bytes(NEW)
    other.rename(file)


def make_it_a_link(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def make_it_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


CHANGES = [change_content, replace, make_it_a_link, make_it_a_pipe]


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("then", [DELETE, Then("move", Path("/nowhere"))], ids=["delete", "move"])
def test_what_changed_since_stays(
    uploads: Path, done: Path, then: Then, change: Callable[[Path], None]
) -> None:
    file = uploads / "d" / "run.trc"
    one = sent(uploads)
    change(file)
    before = file.lstat()
    then = then if then is DELETE else Then("move", done)
    assert dispose(uploads, then, one) == [False]
    assert os.path.samestat(file.lstat(), before)
    assert left_over(uploads) == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_what_changes_in_the_last_moment_gets_its_name_back(
    uploads: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the name and the rename aside."""
    file = uploads / "d" / "run.trc"
    one = sent(uploads)
    rename = os.rename

    def rename_later(*args: object, **options: object) -> None:
        monkeypatch.undo()
        change(file)
        rename(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "rename", rename_later)
    assert dispose(uploads, DELETE, one) == [False]
    assert os.path.lexists(file)
    assert left_over(uploads) == []
    if change in (change_content, replace):
        assert file.read_bytes() in (b"content!", NEW)


def test_what_is_aside_and_changed_does_not_replace_what_came_since(uploads: Path) -> None:
    """Somebody had the file open, wrote on, and another one has its name by now."""
    file = uploads / "d" / "run.trc"
    one = sent(uploads)
    with file.open("ab") as open_still:
        killed_at("then.aside", lambda: dispose(uploads, DELETE, one))
        open_still.write(b"!")
    file.write_bytes(NEW)
    assert dispose(uploads, DELETE, one) == [False]
    assert visible(uploads) == {PATH: NEW, b"d/" + conflict_name(b"run.trc", TID): b"content!"}
    assert left_over(uploads) == []


def test_another_file_of_the_same_size_and_time_stays(uploads: Path) -> None:
    file = uploads / "d" / "run.trc"
    one = sent(uploads)
    times = file.stat().st_mtime_ns
    replace(file)
    file.write_bytes(b"another"[: one.size])
    os.utime(file, ns=(times, times))
    assert dispose(uploads, DELETE, one) == [False]
    assert visible(uploads) == {PATH: b"another"}


def test_where_inodes_mean_nothing_they_are_not_compared(uploads: Path) -> None:
    assert dispose(uploads, DELETE, sent(uploads, inodes=False)) == [True]
    assert visible(uploads) == {}


def test_what_is_gone_is_done(uploads: Path) -> None:
    one = sent(uploads)
    (uploads / "d" / "run.trc").unlink()
    assert dispose(uploads, DELETE, one) == [False]
    (uploads / "d").rmdir()
    assert dispose(uploads, DELETE, one) == [False]


def test_no_link_leads_out_of_the_directory(uploads: Path, tmp_path: Path) -> None:
    one = sent(uploads)
    (uploads / "d").rename(tmp_path / "elsewhere")
    (uploads / "d").symlink_to(tmp_path / "elsewhere")
    assert dispose(uploads, DELETE, one) == [False]
    assert (tmp_path / "elsewhere" / "run.trc").read_bytes() == b"content"


def test_somebody_elses_private_directory_is_not_used(
    uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uploads / ".kfd").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError):
        dispose(uploads, DELETE, sent(uploads))
    assert visible(uploads) == {PATH: b"content"}


@pytest.mark.parametrize("place", [True, False])
def test_where_renames_may_replace_links_are_used(
    uploads: Path, done: Path, monkeypatch: pytest.MonkeyPatch, place: bool
) -> None:
    """A file system without RENAME_NOREPLACE (NFS)."""

    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr("kfd.daemon.publishing.renames._renameat2", refuse)
    if place:
        (done / "d").mkdir(parents=True)
        (done / "d" / "run.trc").write_bytes(b"another")
    dispose(uploads, Then("move", done), sent(uploads))
    name = b"d/" + conflict_name(b"run.trc", TID) if place else PATH
    assert visible(done)[name] == b"content"
    assert visible(uploads) == {}
    assert left_over(uploads) == []
