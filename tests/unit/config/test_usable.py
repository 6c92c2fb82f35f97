"""What downloads need on this host, by the modes of directories, for any user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kfd.config import Config, from_values
from kfd.config.accounts import Account
from kfd.config.usable import unusable
from kfd.errors import ConfigError, KfdError, PermissionProblemError

STRANGER = Account("anna", 54321, frozenset({54321}))
ROOT = Account("root", 0, frozenset({0}))


def config(directory: Path, **route: Any) -> Config:
    kafka = {"bootstrap.servers": "b:9092"}
    download = {"topic": "t", "directory": str(directory), **route}
    return from_values({"kafka": kafka, "downloads": {"in": download}})


def faults(directory: Path, account: Account, **route: Any) -> list[KfdError]:
    return list(unusable(config(directory, **route), account))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that everybody reaches, though pytest's own are private."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o011)
    return tmp_path


def test_a_directory_that_may_be_written(shared: Path) -> None:
    shared.chmod(0o777)
    assert faults(shared, STRANGER) == []
    assert faults(shared / "made" / "at" / "start", STRANGER) == []


def test_a_directory_of_somebody_else(shared: Path) -> None:
    shared.chmod(0o755)
    (fault,) = faults(shared, STRANGER)
    assert isinstance(fault, PermissionProblemError)
    assert f"anna may not write in {shared}" in str(fault)
    assert fault.fix == f"install -d -o anna {shared}"
    (fault,) = faults(shared / "new", STRANGER)
    assert f"anna may not make {shared / 'new'} in {shared}" in str(fault)
    assert faults(shared, ROOT) == []


def test_a_directory_behind_a_closed_one(shared: Path) -> None:
    inner = shared / "closed" / "open"
    inner.mkdir(parents=True)
    inner.chmod(0o777)
    (shared / "closed").chmod(0o700)
    (fault,) = faults(inner, STRANGER)
    assert f"may not search {shared / 'closed'}" in str(fault)


def test_a_file_in_the_way(shared: Path) -> None:
    (shared / "file").write_bytes(b"")
    for directory in (shared / "file", shared / "file" / "below"):
        (fault,) = faults(directory, ROOT)
        assert isinstance(fault, ConfigError)
        assert "a file is in its way" in str(fault)


def test_groups(shared: Path) -> None:
    shared.chmod(0o777)
    (fault,) = faults(shared, ROOT, owner_group="no-such-group")
    assert "no group no-such-group" in str(fault)
    (fault,) = faults(shared, STRANGER, owner_group="root")
    assert "not a member of root" in str(fault)
    assert fault.fix.endswith("SupplementaryGroups=root; then systemctl restart kfd")


def test_modes_count_as_they_do_for_the_kernel(tmp_path: Path) -> None:
    status = os.stat(tmp_path)
    owner = Account("o", status.st_uid or 1, frozenset())
    for mode, uid, gid, granted in (
        (0o700, owner.uid, 1, True),
        (0o077, owner.uid, 1, False),  # the owner's bits alone count for the owner
        (0o070, 7, 1, True),
        (0o007, 7, 1, False),
        (0o007, 7, 2, True),
    ):
        made = os.stat_result((0o40000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))
        account = Account("o", owner.uid, frozenset({1}))
        assert account.may(made, os.W_OK | os.X_OK) is granted, (oct(mode), uid, gid)
