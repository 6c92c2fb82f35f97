"""``kfdctl backup``: a file that appears whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kfd.errors import KfdError
from tests.control import MemoryOperations
from tests.unit.ctl.kfdctl import run, run_json
from tests.unit.server.users import needs_root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for backups."""
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory


def test_a_new_file(served: Path, place: Path) -> None:
    file = place / "ledger.db"
    assert run("--socket", served, "backup", file) == (0, f"{file}  8 B\n", "")
    assert file.read_bytes() == b"a ledger"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(place.iterdir()) == [file]


def test_an_old_one_is_replaced(served: Path, place: Path) -> None:
    file = place / "ledger.db"
    file.write_bytes(b"an older and longer one")
    assert run_json("--socket", served, "backup", file) == {"file": str(file), "size": 8}
    assert file.read_bytes() == b"a ledger"


def test_what_fails_leaves_all_as_it_was(
    served: Path, operations: MemoryOperations, place: Path
) -> None:
    file = place / "ledger.db"
    file.write_bytes(b"an older one")
    operations.failure = KfdError("no room for a copy", fix="make some")
    assert run("--socket", served, "backup", file) == (
        1,
        "",
        "kfdctl: no room for a copy\n  fix: make some\n",
    )
    assert file.read_bytes() == b"an older one"
    assert list(place.iterdir()) == [file]


def test_where_nothing_can_be_written(served: Path, place: Path) -> None:
    code, _, err = run("--socket", served, "backup", place / "missing" / "ledger.db")
    assert code == 1
    assert "can't be written: No such file or directory" in err


@pytest.mark.parametrize("kind", ["fifo", "link", "device"])
def test_only_files_are_replaced(served: Path, place: Path, kind: str) -> None:
    """``/dev/null`` as FILE would be none afterwards, for all programs of the host."""
    file = place / "there"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to(place / "elsewhere")
    else:
        needs_root()
        os.mknod(file, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    before = file.lstat()
    code, _, err = run("--socket", served, "backup", file)
    assert (code, err) == (
        1,
        f"{file}: is there already, and is no regular file\n  fix: give another FILE\n",
    )
    assert os.path.samestat(before, file.lstat())
    assert list(place.iterdir()) == [file]
