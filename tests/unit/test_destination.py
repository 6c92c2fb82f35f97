"""A route's directory: its owner, its partials, its directories."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.publishing.destination import Destination, PartKey
from kfd.daemon.publishing.partials import DiskError, Partials, sweep
from kfd.errors import ConfigError, ExitCode, KfdError, PermissionProblemError
from tests.parts import fill, in_child, mounted
from tests.privileges import unprivileged

KEY = PartKey(bytes(range(16)), 3)


def opened(directory: Path, owner: str = "scope3, ledger 00") -> Destination:
    return Destination(directory, mode=0o750, group=-1, owner=owner)


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Destination]:
    destination = opened(tmp_path / "data")
    yield destination
    destination.close()


# Its owner


def test_directory_is_made_with_a_private_one(tmp_path: Path) -> None:
    destination = opened(tmp_path / "a" / "b")
    private = tmp_path / "a" / "b" / ".kfd"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert (private / "owner").read_text() == "scope3, ledger 00\n"
    assert stat.S_IMODE((private / "owner").stat().st_mode) == 0o600
    destination.close()


def test_too_open_private_directory_is_closed(tmp_path: Path) -> None:
    (tmp_path / ".kfd").mkdir()
    (tmp_path / ".kfd").chmod(0o777)
    opened(tmp_path).close()
    assert stat.S_IMODE((tmp_path / ".kfd").stat().st_mode) == 0o700


def test_another_daemon_is_refused(tmp_path: Path, destination: Destination) -> None:
    with pytest.raises(ConfigError, match=r"in use by another kfd \(scope3, ledger 00\)") as caught:
        opened(tmp_path / "data", "scope4, ledger 11")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert caught.value.fix
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError):
        opened(tmp_path / "data", "scope4, ledger 11")
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_dead_owner_is_taken_over_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert in_child(lambda: opened(tmp_path / "data") and os._exit(0)) == 0
    with caplog.at_level(logging.INFO, "kfd"):
        opened(tmp_path / "data").close()
        assert caplog.messages == []
        opened(tmp_path / "data", "scope4, ledger 11").close()
    assert "scope3, ledger 00" in caplog.text
    assert (tmp_path / "data" / ".kfd" / "owner").read_text() == "scope4, ledger 11\n"


def test_shorter_owner_leaves_nothing_of_the_longer(tmp_path: Path) -> None:
    opened(tmp_path, "a very long name").close()
    opened(tmp_path, "x").close()
    assert (tmp_path / ".kfd" / "owner").read_text() == "x\n"


@pytest.mark.parametrize("what", ["symlink", "file"])
def test_private_directory_must_be_one(tmp_path: Path, what: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / ".kfd").symlink_to(other) if what == "symlink" else (data / ".kfd").touch()
    with pytest.raises(PermissionProblemError) as caught:
        opened(data)
    assert caught.value.exit_code == ExitCode.PERMISSION
    assert list(other.iterdir()) == []


def test_owner_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".kfd").mkdir(mode=0o700)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".kfd" / "owner").symlink_to(tmp_path / "victim")
    with pytest.raises(PermissionProblemError):
        opened(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_private_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("another user's directory can only be made by root")
    (tmp_path / ".kfd").mkdir()
    os.chown(tmp_path / ".kfd", 65534, -1)
    with pytest.raises(PermissionProblemError, match="belongs to uid 65534"):
        opened(tmp_path)


def test_directory_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o555)
    with unprivileged(), pytest.raises(PermissionProblemError) as caught:
        opened(tmp_path / "data")
    assert caught.value.fix


def test_read_only_file_system_names_the_drop_in(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "tmpfs", "ro") as disk:
        with pytest.raises(PermissionProblemError, match="read-only for the service") as caught:
            opened(disk)
        assert f"ReadWritePaths=-{disk};" in caught.value.fix


def test_full_disk_at_the_start_is_no_bug(tmp_path: Path) -> None:
    """Refused in words, or taken and degraded; never a traceback."""
    with mounted(tmp_path / "disk", "tmpfs", "size=64k") as disk:
        for pages in range(6):
            filler = fill(disk, leave=4096 * pages)
            try:
                opened(disk / str(pages)).close()
            except KfdError as error:
                assert "space" in str(error)  # noqa: PT017 - it may also succeed
            filler.unlink()


# Partials


def test_partial_is_private_and_new(destination: Destination, tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        fd = destination.create_part(KEY)
        assert os.pread(fd, 9, 0) == b""
        os.write(fd, content)
        os.fchmod(fd, 0o644)
        os.close(fd)
    (part,) = (tmp_path / "data" / ".kfd").glob("*.part")
    assert part.read_bytes() == b"second"
    assert KEY.tid.hex() in part.name
    fd = destination.create_part(KEY)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    os.close(fd)


def test_partials_of_two_partitions_are_two_files(destination: Destination) -> None:
    partials = Partials(destination)
    other = PartKey(KEY.tid, 4)
    partials.append(KEY, 0, b"one")
    partials.append(other, 0, b"other")
    partials.append(KEY, 3, b"!")
    assert os.pread(partials.descriptor(KEY), 9, 0) == b"one!"
    assert os.pread(partials.descriptor(other), 9, 0) == b"other"
    partials.discard(KEY)
    assert destination.part_status(KEY) is None
    assert destination.part_status(other) is not None
    partials.discard(other)


def test_planted_symlink_is_not_written_through(destination: Destination, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    os.symlink(victim, os.fsencode(tmp_path / "data" / ".kfd") + b"/" + KEY.name)
    with pytest.raises(OSError, match="symbolic links"):
        destination.open_part(KEY)
    partials = Partials(destination)
    partials.append(KEY, 0, b"x")
    partials.discard(KEY)
    assert victim.read_bytes() == b"precious"


def test_discard_of_what_is_not_there_is_fine(destination: Destination) -> None:
    Partials(destination).discard(KEY)
    Partials(destination).forget(KEY)


def test_append_to_a_partial_that_vanished_is_a_disk_error(destination: Destination) -> None:
    partials = Partials(destination)
    partials.append(KEY, 0, b"x")
    partials.forget(KEY)
    destination.remove_part(KEY)
    with pytest.raises(DiskError):
        partials.append(KEY, 1, b"y")


def test_sweep_removes_partials_only(destination: Destination, tmp_path: Path) -> None:
    for number in range(3):
        os.close(destination.create_part(PartKey(KEY.tid, number)))
    (tmp_path / "data" / ".kfd" / "odd.part").write_bytes(b"")
    sweep(destination, "topic", 0)
    assert [path.name for path in (tmp_path / "data" / ".kfd").iterdir()] == ["owner"]


# Directories


def test_directories_are_opened_once_and_closed(destination: Destination) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with destination.directories() as directories:
        one = directories.open(b"a/b/c", create=True)
        assert directories.open(b"a/b/c", create=True) == one
        assert directories.open(b"a/b", create=False) != one
        assert len(os.listdir("/proc/self/fd")) == before + 3
        directories.sync()
    assert len(os.listdir("/proc/self/fd")) == before


def test_directory_that_is_not_to_be_made_is_not(destination: Destination, tmp_path: Path) -> None:
    with destination.directories() as directories, pytest.raises(FileNotFoundError):
        directories.open(b"a", create=False)
    assert not (tmp_path / "data" / "a").exists()


@pytest.mark.parametrize("path", [b"link", b"link/x", b"file", b"file/x"])
def test_only_real_directories_are_entered(
    destination: Destination, tmp_path: Path, path: bytes
) -> None:
    (tmp_path / "data" / "link").symlink_to("/")
    (tmp_path / "data" / "file").touch()
    with destination.directories() as directories, pytest.raises(OSError, match=r"Errno"):
        directories.open(path, create=True)


def test_every_directory_with_a_new_name_is_synced(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once; a directory that was made is a new name in its parent."""
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))
    with destination.directories() as directories:
        inner = directories.open(b"a/b", create=True)
        for _ in range(2):
            directories.changed(inner)
        directories.sync()
        assert sorted(synced) == sorted({destination._root, directories._open[b"a"], inner})


def test_free_space_is_what_the_daemon_may_use(destination: Destination, tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert 0 < destination.free() <= status.f_blocks * status.f_frsize
