"""Offered files: where the daemon finds them, and which it had better copy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kfd.daemon.admission import admission
from kfd.daemon.admission.offered import look, place_of
from kfd.daemon.watcher.mounts import Mount
from kfd.errors import KfdError

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "run.trc"
    path.write_bytes(b"volts")
    return path


def test_place_has_no_links(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file.parent)
    through = os.fsencode(link / ".." / file.parent.name / "run.trc")
    assert place_of(through, file.stat()) == os.fsencode(file)


def test_another_file_has_no_place(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"volts")
    assert place_of(os.fsencode(other), file.stat()) is None
    assert place_of(os.fsencode(file.parent / "nothing"), file.stat()) is None


def test_a_removed_file_has_no_place(file: Path) -> None:
    """Not even where another one is called as the kernel calls it now."""
    with file.open("rb") as opened:
        file.unlink()
        file.with_name("run.trc (deleted)").write_bytes(b"volts")
        status = os.fstat(opened.fileno())
        assert place_of(f"/proc/self/fd/{opened.fileno()}".encode(), status) is None


def test_a_file_that_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(KfdError, match="it cannot be looked at"):
        look(-1)


@pytest.mark.parametrize(
    ("kind", "uid", "device", "may"),
    [
        ("fuse.sshfs", NOBODY, 0, True),
        ("fuse", NOBODY, 0, True),
        ("nfs4", NOBODY, 0, False),
        ("fuse.sshfs", 0, 0, False),
        ("fuse.sshfs", NOBODY, os.makedev(8, 1), False),
    ],
)
def test_only_what_another_users_process_answers_for_may_hang(
    file: Path, monkeypatch: pytest.MonkeyPatch, kind: str, uid: int, device: int, may: bool
) -> None:
    monkeypatch.setattr(admission, "mount_of", lambda _: Mount(b"/", kind))
    fields = list(file.stat()[:10])
    fields[2] = device
    assert admission._may_hang(os.fsencode(file), os.stat_result(fields), uid) is may
