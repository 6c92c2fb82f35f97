"""``then: delete`` and ``then: move``: the very file that was sent, wherever kfd is killed."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kfd.config import Config, from_values
from kfd.config.values import Then
from kfd.daemon import crashpoint, disposal
from kfd.daemon.context import Context
from kfd.daemon.disposal import Disposer
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, disposals
from kfd.daemon.ledger.disposals import Disposal
from kfd.daemon.thereafter import Thereafter
from kfd.paths import conflict_name
from tests.parts import in_child, mounted, running, running_ledger, version_of, visible
from tests.privileges import unprivileged
from tests.support import eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

TID = bytes(range(16))
PATH = b"d/run.trc"
DELETE = Then("delete")
NEW = b"newer content"


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    root = tmp_path / "uploads"
    (root / "d").mkdir(parents=True)
    (root / "d" / "run.trc").write_bytes(b"content")
    return root


@pytest.fixture
def done(tmp_path: Path) -> Path:
    return tmp_path / "done" / "here"


@pytest.fixture(params=["same", "other"])
def target(request: pytest.FixtureRequest, done: Path) -> Iterator[Path]:
    """Where files are moved to: on the same file system, and on another one."""
    if request.param == "same":
        yield done
    else:
        done.parent.mkdir()
        with mounted(done.parent, "tmpfs"):
            yield done


def sent(root: Path, path: bytes = PATH, *, inodes: bool = True) -> Disposal:
    """A file as it is now, as the version that was sent."""
    one = version_of(Path(os.fsdecode(os.path.join(os.fsencode(root), path))), inodes=inodes)
    return Disposal(1, TID, path, one.source, one.device, one.inode, one.size, one.mtime_ns)


def dispose(root: Path, then: Then, *files: Disposal) -> list[bool]:
    with Disposer(root, then, lambda: identity(root)).batch() as batch:
        return [batch.dispose(one) for one in files]


def identity(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_dev, status.st_ino


def left_over(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".kfd").iterdir())


def killed_at(place: str, work: Callable[[], object]) -> None:
    """Do it in a process that is killed there; it must come there."""

    def child() -> None:
        crashpoint._target = crashpoint._Target(place)
        work()

    assert in_child(child) == -9, place


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


def change_content(file: Path) -> None:
    with file.open("ab") as writer:
        writer.write(b"!")


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


RENAMING = DELETING = ["then.aside", "then.done"]
COPYING = ["then.aside", "then.copied", "then.placed", "then.done"]


@pytest.mark.parametrize("place", DELETING)
def test_delete_killed_anywhere(uploads: Path, place: str) -> None:
    one = sent(uploads)
    killed_at(place, lambda: dispose(uploads, DELETE, one))
    dispose(uploads, DELETE, one)
    assert visible(uploads) == {}
    assert left_over(uploads) == []


@pytest.mark.parametrize("place", RENAMING)
def test_move_killed_anywhere(uploads: Path, done: Path, place: str) -> None:
    killed_while_moving(uploads, done, place)


@pytest.mark.parametrize("place", COPYING)
def test_copy_killed_anywhere(uploads: Path, done: Path, place: str) -> None:
    done.parent.mkdir()
    with mounted(done.parent, "tmpfs"):
        killed_while_moving(uploads, done, place)


def killed_while_moving(uploads: Path, target: Path, place: str) -> None:
    one = sent(uploads)
    then = Then("move", target)
    killed_at(place, lambda: dispose(uploads, then, one))
    dispose(uploads, then, one)
    assert (visible(uploads), visible(target)) == ({}, {PATH: b"content"})
    assert left_over(uploads) == []


def test_put_back_killed_before(uploads: Path) -> None:
    file = uploads / "d" / "run.trc"
    one = sent(uploads)
    killed_at("then.aside", lambda: dispose(uploads, DELETE, one))
    change_content(uploads / ".kfd" / left_over(uploads)[0])
    killed_at("then.changed", lambda: dispose(uploads, DELETE, one))
    assert dispose(uploads, DELETE, one) == [False]
    assert file.read_bytes() == b"content!"


def test_a_route_that_keeps_files_now_gives_back_what_is_aside(uploads: Path) -> None:
    one = sent(uploads)
    killed_at("then.aside", lambda: dispose(uploads, DELETE, one))
    assert visible(uploads) == {}
    assert dispose(uploads, Then("keep"), one) == [False]
    assert visible(uploads) == {PATH: b"content"}
    assert dispose(uploads, Then("keep"), one) == [False]
    assert visible(uploads) == {PATH: b"content"}


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

    monkeypatch.setattr("kfd.daemon.renames._renameat2", refuse)
    if place:
        (done / "d").mkdir(parents=True)
        (done / "d" / "run.trc").write_bytes(b"another")
    dispose(uploads, Then("move", done), sent(uploads))
    name = b"d/" + conflict_name(b"run.trc", TID) if place else PATH
    assert visible(done)[name] == b"content"
    assert visible(uploads) == {}
    assert left_over(uploads) == []


# The stage


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
    context = Context({}, ledger, None, None, health, None)  # type: ignore[arg-type]
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
        context = Context({}, ledger, None, None, health, None)  # type: ignore[arg-type]
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
    monkeypatch.setattr("kfd.daemon.thereafter.RETRY_SECONDS", 0.1)
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
