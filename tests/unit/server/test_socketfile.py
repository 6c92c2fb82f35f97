"""The socket's file: whose it is, and what may lie in its place."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kfd.errors import ConfigError, PermissionProblemError
from tests.control import MemoryOperations, serving
from tests.privileges import unprivileged
from tests.rawclient import Raw
from tests.unit.server.users import NOBODY, as_user, needs_root


def mode_of(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def test_the_socket_is_for_the_group(socket_path: Path, operations: MemoryOperations) -> None:
    group = grp.getgrnam("daemon") if os.geteuid() == 0 else grp.getgrgid(os.getegid())
    with serving(socket_path, operations, group.gr_name):
        assert mode_of(socket_path) == "srw-rw----"
        assert socket_path.stat().st_gid == group.gr_gid
    assert not socket_path.exists()


@pytest.mark.parametrize("group", [None, "", "no-such-group"])
def test_without_a_group_it_is_for_root_and_the_daemons_user(
    socket_path: Path, operations: MemoryOperations, group: str | None
) -> None:
    with serving(socket_path, operations, group):
        assert mode_of(socket_path) == "srw-------"


def test_a_group_that_may_not_be_given_leaves_the_daemons_own(
    tmp_path: Path, operations: MemoryOperations
) -> None:
    needs_root()
    directory = tmp_path / "own"
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)
    for parent in directory.parents[:-1]:
        if parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o111)
    path = directory / "kfd.sock"
    code = as_user(NOBODY, [], NOBODY, lambda: _made_by_nobody(path, operations))
    assert code == ["srw-rw----", NOBODY]


def _made_by_nobody(path: Path, operations: MemoryOperations) -> list[object]:
    with serving(path, operations, "daemon"):
        return [mode_of(path), path.stat().st_gid]


def test_the_umask_stays_as_it_was(socket_path: Path, operations: MemoryOperations) -> None:
    before = os.umask(0o027)
    try:
        with serving(socket_path, operations):
            assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced(socket_path: Path, operations: MemoryOperations) -> None:
    socket_path.parent.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(socket_path))
    stale.close()
    with serving(socket_path, operations), Raw(socket_path) as client:
        assert "status" in client.call("GetStatus")["parameters"]


def test_a_live_daemon_is_not_replaced(served: Path, operations: MemoryOperations) -> None:
    with pytest.raises(ConfigError, match="another kfd listens"), serving(served, operations):
        pass
    with Raw(served) as client:
        assert "status" in client.call("GetStatus")["parameters"]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_socket_is_not_removed(
    socket_path: Path, operations: MemoryOperations, make: Callable[[Path], object]
) -> None:
    socket_path.parent.mkdir()
    make(socket_path)
    with pytest.raises(ConfigError, match="in the way"), serving(socket_path, operations):
        pass
    assert os.path.lexists(socket_path)


def test_a_socket_where_none_can_be_is_a_clear_error(
    tmp_path: Path, operations: MemoryOperations
) -> None:
    for bad in (tmp_path / ("x" * 120), tmp_path / "a" / "b" / "kfd.sock"):
        with pytest.raises(ConfigError, match="cannot be made"), serving(bad, operations):
            pass


def test_a_directory_that_may_not_be_written_is_a_clear_error(
    tmp_path: Path, operations: MemoryOperations
) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with (
        unprivileged(),
        pytest.raises((PermissionProblemError), match="cannot be made"),
        serving(tmp_path / "locked" / "kfd.sock", operations),
    ):
        pass


def test_a_socket_of_another_daemon_is_left_at_the_end(
    socket_path: Path, operations: MemoryOperations
) -> None:
    with serving(socket_path, operations):
        socket_path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(socket_path))
    assert socket_path.is_socket()
    other.close()
