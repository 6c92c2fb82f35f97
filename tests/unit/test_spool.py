"""The spool: what is accepted is there, whole; what is over goes; what nobody holds is removed."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kfd.daemon import crashpoint
from kfd.daemon.admission.intake import Intake
from kfd.daemon.admission.spool import Spool
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, accepting, endings, outgoing, spooled
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.spooled import BLOCK
from kfd.errors import KfdError, PermissionProblemError
from tests.parts import in_child, mounted, running, running_ledger
from tests.support import eventually

LIMIT = 64 * BLOCK
HISTORY = 3600.0
ANNA, BERT = 1001, 1002


@pytest.fixture
def made(ledger: Ledger, tmp_path: Path) -> Spool:
    """A spool whose thread doesn't run."""
    return Spool(ledger, tmp_path / "spool", LIMIT, HISTORY)


def stays() -> bool:
    """The caller does."""
    return False


def names(tmp_path: Path) -> set[str]:
    return set(os.listdir(tmp_path / "spool"))


def put(
    made: Spool, ledger: Ledger, source: Path, *, uid: int = ANNA, name: bytes = b"run.trc"
) -> bytes:
    """Copy and accept a file as the daemon does; its tid."""
    with Intake(made, uid, stays) as intake, source.open("rb") as file:
        version = intake.copy(file.fileno(), seen(source, name), sized=True)
        intake.sync()
        offer = Offer("lab", "t", [version], 4096, {}, uid, again=True)
        (accepted,) = ledger.write(lambda db: accepting.accept(db, offer))
        intake.keep(version.copy)
    assert accepted.tid is not None
    return accepted.tid


def seen(source: Path, name: bytes = b"run.trc") -> FileVersion:
    return FileVersion.of(name, os.fsencode(source), source.stat(), inodes=True)


def row_of(ledger: Ledger, tid: bytes) -> outgoing.Outgoing:
    reader = ledger.reader()
    (number,) = reader.execute("SELECT id FROM outgoing WHERE tid = ?", (tid,)).fetchone()
    (row,) = outgoing.by_id(reader, [number])
    return row


def end(ledger: Ledger, tid: bytes, state: str) -> None:
    """Give a transfer a state as the daemon does; ``delivered`` comes by way of ``in_kafka``."""
    row = row_of(ledger, tid)
    direct = "in_kafka" if state == "delivered" else state
    ledger.write(lambda db: endings.end(db, [Ending(row, direct, 1)]))
    if state == "delivered":
        ledger.write(lambda db: db.execute("UPDATE outgoing SET state = 'delivered'"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "run.trc"
    path.write_bytes(os.urandom(3 * BLOCK + 1))
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    return path


def test_copy_is_what_is_sent(made: Spool, ledger: Ledger, source: Path, tmp_path: Path) -> None:
    content, times = source.read_bytes(), source.stat().st_mtime_ns
    row = row_of(ledger, put(made, ledger, source))
    source.unlink()
    copy = Path(os.fsdecode(row.source))
    assert {row.spool} == names(tmp_path)
    assert copy == tmp_path / "spool" / str(row.spool)
    assert copy.read_bytes() == content
    assert (copy.stat().st_mtime_ns, row.mtime_ns, row.size) == (times, times, len(content))
    assert (row.device, row.inode) == (0, 0)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert made.used == 4 * BLOCK


def test_what_is_not_kept_is_removed(made: Spool, source: Path, tmp_path: Path) -> None:
    with Intake(made, ANNA, stays) as intake, source.open("rb") as file:
        intake.copy(file.fileno(), seen(source), sized=True)
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == set()
    assert made.used == 0


def test_one_who_goes_away_leaves_nothing(made: Spool, source: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(KfdError, match="given up"),
        Intake(made, ANNA, lambda: True) as intake,
        source.open("rb") as file,
    ):
        intake.copy(file.fileno(), seen(source), sized=True)
    assert names(tmp_path) == set()
    assert made.used == 0


class Writer:
    """Changes a file each time that it is asked whether the caller has gone: while it is copied."""

    def __init__(self, path: Path, times: int) -> None:
        self.path = path
        self.times = times

    def __call__(self) -> bool:
        if self.times:
            self.times -= 1
            with self.path.open("ab") as file:
                file.write(b"more")
        return False


def test_file_that_changes_once_is_copied_as_it_is_then(made: Spool, source: Path) -> None:
    with Intake(made, ANNA, Writer(source, 1)) as intake, source.open("rb") as file:
        version = intake.copy(file.fileno(), seen(source), sized=True)
        assert Path(os.fsdecode(version.copy)).read_bytes() == source.read_bytes()
        assert version.size == source.stat().st_size
        assert made.used == 4 * BLOCK


def test_file_that_keeps_changing_is_refused(made: Spool, source: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(KfdError, match="it is being written"),
        Intake(made, ANNA, Writer(source, 1000)) as intake,
        source.open("rb") as file,
    ):
        intake.copy(file.fileno(), seen(source), sized=True)
    assert names(tmp_path) == set()
    assert made.used == 0


def test_file_that_does_not_say_its_size(made: Spool, ledger: Ledger, tmp_path: Path) -> None:
    source = Path("/proc/version")
    with Intake(made, ANNA, stays) as intake, source.open("rb") as file:
        version = intake.copy(file.fileno(), seen(source), sized=False)
        copy = Path(os.fsdecode(version.copy))
        assert copy.read_bytes() == source.read_bytes()
        assert version.size == len(source.read_bytes())
        assert abs(version.mtime_ns / 1e9 - time.time()) < 60
        assert made.used == BLOCK


def test_file_without_end_is_refused(made: Spool, tmp_path: Path) -> None:
    """It takes no more than its user's share, and gives that back."""
    endless = Path("/dev/zero")
    with (
        pytest.raises(KfdError, match="has no room"),
        Intake(made, ANNA, stays) as intake,
        endless.open("rb") as file,
    ):
        intake.copy(file.fileno(), seen(endless), sized=False)
    assert names(tmp_path) == set()
    assert made.used == 0


def test_more_than_ones_share_is_refused(made: Spool, ledger: Ledger, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(20 * BLOCK))
    put(made, ledger, large)
    with pytest.raises(KfdError, match=r"no room for 80 KiB more: of 256 KiB one user may have"):
        put(made, ledger, large)
    put(made, ledger, large, uid=BERT)
    assert made.used == 40 * BLOCK


@pytest.mark.parametrize("state", ["delivered", "cancelled"])
def test_what_is_over_is_removed(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path, state: str
) -> None:
    tid = put(made, ledger, source)
    with running(made):
        end(ledger, tid, state)
        eventually(lambda: not names(tmp_path))
        eventually(lambda: made.used == 0)
    row = row_of(ledger, tid)
    assert (row.spool, row.source) == (None, b"")


@pytest.mark.parametrize("state", ["in_kafka", "failed"])
def test_what_may_have_to_be_sent_again_stays(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path, state: str
) -> None:
    kept = put(made, ledger, source, name=b"kept")
    with running(made):
        end(ledger, kept, state)
        end(ledger, put(made, ledger, source, name=b"over"), "cancelled")
        eventually(lambda: len(names(tmp_path)) == 1)
    assert names(tmp_path) == {row_of(ledger, kept).spool}


def test_what_ended_longer_ago_than_the_history_is_removed(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    tid = put(made, ledger, source)
    end(ledger, tid, "in_kafka")
    before = time.time() - HISTORY - 1
    ledger.write(lambda db: db.execute("UPDATE outgoing SET ended_at = ?", (before,)))
    assert ledger.write(lambda db: outgoing.prune(db, time.time(), 10)) == 0
    with running(made):
        eventually(lambda: not names(tmp_path))
    assert ledger.write(lambda db: outgoing.prune(db, time.time(), 10)) == 1


def test_room_is_made_by_ones_own_that_are_in_kafka_the_oldest_first(
    made: Spool, ledger: Ledger, source: Path
) -> None:
    berts = put(made, ledger, source, uid=BERT, name=b"bert's")
    failed = put(made, ledger, source, name=b"failed")
    oldest, newer = (put(made, ledger, source, name=name) for name in (b"oldest", b"newer"))
    waiting = put(made, ledger, source, name=b"waiting")
    for tid, state in ((berts, "in_kafka"), (failed, "failed"), (oldest, "in_kafka")):
        end(ledger, tid, state)
    end(ledger, newer, "in_kafka")
    assert made.used == 20 * BLOCK
    large = source.with_name("large")
    large.write_bytes(bytes(16 * BLOCK))
    put(made, ledger, large, name=b"large")
    held = {
        one: row_of(ledger, one).spool is not None
        for one in (berts, failed, oldest, newer, waiting)
    }
    assert held == {berts: True, failed: True, oldest: False, newer: True, waiting: True}


def test_nothing_is_given_up_where_that_would_not_help(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    kept = put(made, ledger, source)
    end(ledger, kept, "in_kafka")
    large = tmp_path / "large"
    large.write_bytes(bytes(40 * BLOCK))
    with pytest.raises(KfdError, match="no room"):
        put(made, ledger, large)
    assert row_of(ledger, kept).spool is not None


Disk = namedtuple("Disk", "f_blocks f_frsize f_bavail f_files f_favail", defaults=(0, 0))


def test_the_ledgers_disk_is_not_filled(
    made: Spool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twentieth stays free, and this is one block less than that and the file."""
    free = [50 + 4]
    monkeypatch.setattr(os, "statvfs", lambda _: Disk(1000, BLOCK, free[0]))
    with Intake(made, ANNA, stays) as intake, source.open("rb") as file:
        intake.copy(file.fileno(), seen(source), sized=True)
        free[0] -= 1
        with pytest.raises(KfdError, match="the disk of its spool has no room"):
            intake.copy(file.fileno(), seen(source), sized=True)
        assert len(names(tmp_path)) == 1


def test_the_last_inodes_are_for_others(
    made: Spool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [50]
    monkeypatch.setattr(os, "statvfs", lambda _: Disk(1000, BLOCK, 900, 1000, free[0]))
    with Intake(made, ANNA, stays) as intake, source.open("rb") as file:
        intake.copy(file.fileno(), seen(source), sized=True)
        free[0] -= 1
        with pytest.raises(KfdError, match="has room for few more files"):
            intake.copy(file.fileno(), seen(source), sized=True)
        assert len(names(tmp_path)) == 1


def test_full_disk_refuses_and_leaves_nothing(ledger: Ledger, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(1 << 20))
    with mounted(tmp_path / "small", "tmpfs", "size=512k") as small:
        made = Spool(ledger, small / "spool", 1 << 30, HISTORY)
        with (
            pytest.raises(KfdError, match="the disk of its spool has no room"),
            Intake(made, ANNA, stays) as intake,
            large.open("rb") as file,
        ):
            intake.copy(file.fileno(), seen(large), sized=True)
        assert os.listdir(small / "spool") == []
        assert made.used == 0


def test_transfer_that_starts_over_takes_its_copy_along(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    tid = put(made, ledger, source)
    before = row_of(ledger, tid)
    end(ledger, tid, "in_kafka")
    successor = ledger.write(
        lambda db: endings.start_over(db, row_of(ledger, tid), "why", state="in_kafka")
    )
    assert successor is not None
    after = row_of(ledger, successor)
    assert (after.spool, after.source) == (before.spool, before.source)
    assert row_of(ledger, tid).spool is None
    with running(made):
        end(ledger, put(made, ledger, source, name=b"other"), "cancelled")
        eventually(lambda: names(tmp_path) == {before.spool})


def test_copy_that_was_given_up_meanwhile_is_not_taken_along(
    made: Spool, ledger: Ledger, source: Path
) -> None:
    """Its row was read before that."""
    tid = put(made, ledger, source)
    end(ledger, tid, "failed")
    row = row_of(ledger, tid)
    ledger.write(lambda db: spooled.make_room(db, ANNA, 1))
    successor = ledger.write(lambda db: endings.start_over(db, row, "why", state="failed"))
    assert successor is not None
    after = row_of(ledger, successor)
    assert (after.spool, after.source) == (None, b"")


def test_newer_version_does_not_take_the_place_of_one_that_is_copied(
    made: Spool, ledger: Ledger, source: Path
) -> None:
    """Both can still be read."""
    first = put(made, ledger, source)
    source.write_bytes(b"changed")
    second = put(made, ledger, source)
    states = dict(ledger.reader().execute("SELECT tid, state FROM outgoing").fetchall())
    assert states == {first: "queued", second: "queued"}


# --- the next start ---------------------------------------------------------------------------


def test_next_start_knows_what_is_held_and_removes_the_rest(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    held = row_of(ledger, put(made, ledger, source)).spool
    (tmp_path / "spool" / "orphan").write_bytes(b"never accepted")
    again = Spool(ledger, tmp_path / "spool", LIMIT, HISTORY)
    assert names(tmp_path) == {held}
    assert again.used == 4 * BLOCK


def test_state_directory_that_was_moved(
    made: Spool, ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    tid = put(made, ledger, source)
    shutil.move(tmp_path / "spool", tmp_path / "elsewhere" / "spool")
    Spool(ledger, tmp_path / "elsewhere" / "spool", LIMIT, HISTORY)
    moved = Path(os.fsdecode(row_of(ledger, tid).source))
    assert moved.parent == tmp_path / "elsewhere" / "spool"
    assert moved.read_bytes() == source.read_bytes()


def test_spool_that_can_not_be_used_is_a_clear_error(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"in the way")
    with pytest.raises(PermissionProblemError, match="the state directory cannot be used"):
        Spool(ledger, tmp_path / "spool", LIMIT, HISTORY)


@contextmanager
def dying_at(point: str) -> Iterator[None]:
    """In a process of its own."""
    crashpoint._target = crashpoint._Target(point)
    yield


@pytest.mark.parametrize(
    "point", ["spool.created", "spool.copied", "spool.synced", "spool.given-up"]
)
def test_killed_between_any_two_steps(tmp_path: Path, source: Path, point: str) -> None:
    """What is there then is held by no transfer, and the next start removes it."""

    def life() -> None:
        with running_ledger(tmp_path) as ledger, dying_at(point):
            one = Spool(ledger, tmp_path / "spool", LIMIT, HISTORY)
            with running(one):
                end(ledger, put(one, ledger, source), "cancelled")
                eventually(lambda: False)

    assert in_child(life) == -9
    assert len(names(tmp_path)) == 1
    with running_ledger(tmp_path) as ledger:
        again = Spool(ledger, tmp_path / "spool", LIMIT, HISTORY)
        assert names(tmp_path) == set()
        assert again.used == 0
