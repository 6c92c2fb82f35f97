"""The stage that disposes of what the ledger names."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from kfd.config import Config, from_values
from kfd.daemon.context import Context
from kfd.daemon.disposal import disposal, thereafter
from kfd.daemon.disposal.thereafter import Thereafter
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, disposals
from kfd.daemon.ledger.disposals import Disposal
from kfd.daemon.writability import unwritable
from tests.parts import running, running_ledger, visible
from tests.privileges import unprivileged
from tests.support import eventually
from tests.unit.disposal.files import DELETE, NEW, PATH, dispose, identity, killed_at, sent


def config(root: Path, then: object) -> Config:
    route = {"directory": str(root), "topic": "t", "then": then}
    return from_values({"kafka": {"bootstrap.servers": "b:1"}, "uploads": {"scope3": route}})


def note(ledger: Ledger, one: Disposal) -> None:
    ledger.write(
        lambda db: db.execute(
            "INSERT INTO disposal VALUES (?, ?, 'scope3', ?, ?, ?, ?, ?, ?)",
            (one.id, one.tid, one.path, one.source, one.device, one.inode, one.size, one.mtime_ns),
        )
    )


def stage(ledger: Ledger, health: Health, root: Path, then: object = "delete") -> Thereafter:
    context = Context({}, ledger, None, None, health, None, None)  # type: ignore[arg-type]
    route = config(root, then).uploads["scope3"]
    return Thereafter(route, context, lambda: identity(root))


def waiting(ledger: Ledger) -> int:
    return len(disposals.waiting(ledger.reader(), "scope3", 0, 100))


def test_the_stage_does_what_the_ledger_names(uploads: Path, tmp_path: Path) -> None:
    health = Health()
    with running_ledger(tmp_path) as ledger, running(stage(ledger, health, uploads)):
        note(ledger, sent(uploads))
        eventually(lambda: waiting(ledger) == 0)
        assert visible(uploads) == {}
        assert not health.problems()


def test_an_empty_mount_point_is_not_the_directory(uploads: Path, tmp_path: Path) -> None:
    """The share is unmounted for a while: its files are still to be deleted."""
    health, elsewhere = Health(), tmp_path / "elsewhere"
    one = sent(uploads)
    watched = identity(uploads)
    route = config(uploads, "delete").uploads["scope3"]
    with running_ledger(tmp_path) as ledger:
        context = Context({}, ledger, None, None, health, None, None)  # type: ignore[arg-type]
        note(ledger, one)
        uploads.rename(elsewhere)
        uploads.mkdir()
        stage = Thereafter(route, context, lambda: watched)
        with running(stage):
            began = stage.last_beat
            eventually(lambda: stage.last_beat > began + 0.15)  # it has looked
            assert waiting(ledger) == 1
            assert list(uploads.iterdir()) == []
            uploads.rmdir()
            elsewhere.rename(uploads)
            eventually(lambda: waiting(ledger) == 0)
    assert visible(uploads) == {}
    assert not health.problems()


def test_killed_before_the_ledger_knows(uploads: Path, tmp_path: Path) -> None:
    one = sent(uploads)
    with running_ledger(tmp_path) as ledger:
        note(ledger, one)

    def work() -> None:
        with running_ledger(tmp_path) as ledger, running(stage(ledger, Health(), uploads)):
            eventually(lambda: waiting(ledger) == 0)

    killed_at("then.durable", work)
    (uploads / "d" / "run.trc").write_bytes(NEW)
    with running_ledger(tmp_path) as ledger, running(stage(ledger, Health(), uploads)):
        eventually(lambda: waiting(ledger) == 0)
    assert visible(uploads) == {PATH: NEW}, "the next file of that name is another one"


def test_what_may_not_be_deleted_is_said_and_tried_again(
    uploads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kfd.daemon.disposal.thereafter.RETRY_SECONDS", 0.1)
    health = Health()
    real = disposal.Batch.dispose

    def refuse(*_: object) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(disposal.Batch, "dispose", refuse)
    with running_ledger(tmp_path) as ledger, running(stage(ledger, health, uploads)):
        note(ledger, sent(uploads))
        eventually(lambda: bool(health.problems()))
        (problem,) = health.problems()
        assert problem.text == "d/run.trc can't be deleted: Permission denied"
        assert problem.fix == f"let kfd's user write in {uploads}, or then: keep; it is tried again"
        assert waiting(ledger) == 1
        monkeypatch.setattr(disposal.Batch, "dispose", real)
        eventually(lambda: not health.problems())
        assert visible(uploads) == {}


def test_without_the_right_to_write_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("uploads")
    for directory in (root, *root.parents[:2]):
        directory.chmod(0o755)
    (root / "run.trc").write_bytes(b"content")
    one = sent(root, b"run.trc")
    root.chmod(0o555)
    with unprivileged(), pytest.raises(PermissionError):
        dispose(root, DELETE, one)
    assert visible(root) == {b"run.trc": b"content"}


def test_what_it_may_not_do_is_told_before_anything_is_due(
    uploads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is root's here: kfd's user is one only for the look."""
    uploads.chmod(0o555)
    monkeypatch.setattr(thereafter, "unwritable", unwritable_by_others)
    health = Health()
    with running_ledger(tmp_path) as ledger, running(stage(ledger, health, uploads)):
        eventually(health.problems)
        (problem,) = health.problems()
        assert problem.text == "delivered files can't be deleted: Permission denied"
        assert str(uploads) in problem.fix


def unwritable_by_others(directory: Path) -> OSError | None:
    closed = not directory.stat().st_mode & 0o002
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES)) if closed else None


def test_whether_something_can_be_made_in_a_directory(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        assert unwritable(Path(name)) is None
        with unprivileged():
            error = unwritable(Path(name))
        if os.geteuid() == 0:
            assert error is not None
            assert error.errno == errno.EACCES
    missing = unwritable(tmp_path / "none")
    assert missing is not None
    assert missing.errno == errno.ENOENT
