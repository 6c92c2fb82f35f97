"""The ledger: what was written is there, whatever happens; what failed left nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kfd.control import Direction, State
from kfd.daemon.health import Health
from kfd.daemon.ledger import (
    Ledger,
    LedgerError,
    accepting,
    database,
    delivery,
    endings,
    incoming,
    known,
    outgoing,
    queries,
    resending,
)
from kfd.daemon.ledger.accepting import Accepted, Offer
from kfd.daemon.ledger.delivery import Heard, Rules
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.incoming import BadRecord, Received
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Claim, Progress
from kfd.daemon.ledger.schema import MIGRATIONS
from kfd.errors import ConfigError, ExitCode, KfdError, NoSuchTransferError, UsageError
from kfd.receipts import Outcome, Receipt
from tests.parts import (
    TOPIC_ID,
    Sent,
    close_reader,
    fill,
    in_child,
    mounted,
    running_ledger,
    version,
)
from tests.support import eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

COLUMNS = outgoing._COLUMNS.replace("o.", "")

CHUNK_SIZE = 1000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with running_ledger(tmp_path) as ledger:
        yield ledger


def add(key: str, value: bytes = b"") -> database.Operation[None]:
    """An operation that is easily looked for."""

    def operation(writer: sqlite3.Connection) -> None:
        writer.execute("INSERT INTO identity VALUES (?, ?)", (key, value))

    return operation


def keys(ledger: Ledger) -> set[str]:
    rows = ledger.reader().execute("SELECT key FROM identity")
    return {key for (key,) in rows} - {"origin", "instance"}


# Transactions


def test_what_was_written_can_be_read_by_all_threads(ledger: Ledger) -> None:
    ledger.write(add("a"))
    seen: list[set[str]] = []
    thread = threading.Thread(target=lambda: seen.append(keys(ledger)))
    thread.start()
    thread.join()
    assert seen == [{"a"}] == [keys(ledger)]


def test_write_gives_what_the_operation_returns(ledger: Ledger) -> None:
    assert ledger.write(lambda _: 42) == 42


def test_reader_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.reader().execute("DELETE FROM identity")


class Held:
    """The writer, held in an operation: what is submitted meanwhile becomes one group."""

    def __init__(self, ledger: Ledger) -> None:
        self._entered = threading.Event()
        self._gate = threading.Event()
        self._held = ledger.submit(self._hold)
        assert self._entered.wait(30)

    def _hold(self, _: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._gate.wait(30)

    def let_go(self) -> None:
        self._gate.set()
        self._held.result(30)


def test_operation_that_fails_is_undone_alone(ledger: Ledger) -> None:
    def half(writer: sqlite3.Connection) -> None:
        add("half")(writer)
        raise ValueError("no")

    held = Held(ledger)
    futures = [ledger.submit(one) for one in (add("a"), half, add("a"), add("b"))]
    held.let_go()
    wait(futures, 30)
    failures = [type(future.exception()) for future in futures]
    assert failures == [type(None), ValueError, sqlite3.IntegrityError, type(None)]
    assert keys(ledger) == {"a", "b"}


def test_operations_that_wait_share_a_commit(ledger: Ledger) -> None:
    held = Held(ledger)
    before = ledger.wait_for_change(-1, 0)
    futures = [ledger.submit(add(str(n))) for n in range(100)]
    held.let_go()
    wait(futures, 30)
    assert ledger.wait_for_change(before, 30) - before <= 2  # the holder's, and theirs


def test_group_larger_than_its_limit_is_committed_all_the_same(ledger: Ledger) -> None:
    held = Held(ledger)
    futures = [ledger.submit(add(str(n))) for n in range(database.GROUP_LIMIT * 2 + 1)]
    held.let_go()
    assert not wait(futures, 30).not_done
    assert len(keys(ledger)) == len(futures)


def test_order_of_submission_is_kept(ledger: Ledger) -> None:
    held = Held(ledger)
    order: list[int] = []
    futures = [ledger.submit(lambda _, n=n: order.append(n)) for n in range(50)]
    held.let_go()
    wait(futures, 30)
    assert order == list(range(50))


def test_stop_writes_what_was_submitted(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        held = Held(ledger)
        futures = [ledger.submit(add(str(n))) for n in range(10)]
        ledger.stop()
        held.let_go()
        assert not wait(futures, 30).not_done
    with running_ledger(tmp_path) as ledger:
        assert len(keys(ledger)) == 10


def test_write_after_the_end_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        pass
    answers: list[object] = []

    def late() -> None:
        try:
            answers.append(ledger.write(add("late")))
        except LedgerError as error:
            answers.append(error)

    thread = threading.Thread(target=late, daemon=True)
    thread.start()
    thread.join(5)
    assert [type(one) for one in answers] == [LedgerError]


def test_wait_for_change_is_woken_by_a_commit(ledger: Ledger) -> None:
    seen = ledger.wait_for_change(-1, 0)
    assert ledger.wait_for_change(seen, 0) == seen
    newest: list[int] = []
    waiter = threading.Thread(target=lambda: newest.append(ledger.wait_for_change(seen, 30)))
    waiter.start()
    ledger.write(add("a"))
    waiter.join(30)
    assert newest
    assert newest[0] > seen


# Durability


def test_what_write_returned_survives_kill_9(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def write_for_ever() -> None:
        ledger = Ledger(tmp_path / "ledger.db", Health(), origin=None, default="scope3")
        ledger.start(lambda _stage, _error: os._exit(98))
        for n in range(1_000_000):
            ledger.write(add(str(n)))
            os.write(writing, b"%d\n" % n)

    child = os.fork()
    if child == 0:
        try:
            write_for_ever()
        finally:
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading) as reports:
        told = [reports.readline() for _ in range(20)]
        os.kill(child, signal.SIGKILL)
        told += reports.readlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with running_ledger(tmp_path) as ledger:
        assert keys(ledger) >= {line.strip() for line in told}


def test_transaction_interrupted_by_kill_9_left_nothing(tmp_path: Path) -> None:
    def killed_midway(writer: sqlite3.Connection) -> None:
        accepting.accept(writer, offer(version()))
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        ledger = Ledger(tmp_path / "ledger.db", Health(), origin=None, default="scope3")
        ledger.start(lambda _stage, _error: os._exit(98))
        ledger.write(add("before"))
        ledger.write(killed_midway)

    assert in_child(work) == -signal.SIGKILL
    with running_ledger(tmp_path) as ledger:
        assert keys(ledger) == {"before"}
        for table in ("outgoing", "outgoing_path", "known_file", "tally"):
            assert ledger.reader().execute(f"SELECT * FROM {table}").fetchall() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "tmpfs", "size=1m") as disk:
        yield disk


def test_full_disk_is_an_error_and_changes_nothing(small_disk: Path) -> None:
    with running_ledger(small_disk) as ledger:
        ledger.write(add("before"))
        filler = fill(small_disk)
        with pytest.raises(LedgerError, match="ledger cannot be written") as caught:
            ledger.write(add("large", bytes(200_000)))
        assert caught.value.retry
        assert "free space" in caught.value.fix
        assert keys(ledger) == {"before"}
        filler.unlink()
        ledger.write(add("after"))
        assert keys(ledger) == {"before", "after"}


def test_patient_write_waits_for_space(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "RETRY_SECONDS", 0.05)
    health = Health()
    with running_ledger(small_disk, health) as ledger:
        filler = fill(small_disk)
        done: Future[None] = Future()
        operation = add("large", bytes(200_000))
        thread = threading.Thread(target=lambda: done.set_result(ledger.write_patiently(operation)))
        thread.start()
        (problem,) = eventually(health.problems)
        assert problem.scope == "ledger"
        assert not done.done()
        filler.unlink()
        done.result(30)
        thread.join()
        assert health.problems() == []
        assert keys(ledger) == {"large"}


def test_patient_write_ends_when_the_ledger_is_stopped(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RETRY_SECONDS", 0.05)
    health = Health()
    ended: list[BaseException] = []
    with running_ledger(small_disk, health) as ledger:
        fill(small_disk)

        def patient() -> None:
            try:
                ledger.write_patiently(add("large", bytes(200_000)))
            except LedgerError as error:
                ended.append(error)

        thread = threading.Thread(target=patient, daemon=True)
        thread.start()
        eventually(health.problems)
        ledger.stop()
        thread.join(30)
    assert len(ended) == 1


# Opening


def test_identity_is_kept(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        first = (ledger.origin, ledger.instance)
    with running_ledger(tmp_path, default="renamed-host") as ledger:
        assert (ledger.origin, ledger.instance) == first
    assert first[0] == "scope3"
    assert len(first[1]) == 16


def test_configured_origin_must_be_the_ledgers(tmp_path: Path) -> None:
    with running_ledger(tmp_path):
        pass
    with pytest.raises(ConfigError, match="scope3") as caught:
        Ledger(tmp_path / "ledger.db", Health(), origin="scope4", default="x")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert "origin: scope3" in caught.value.fix


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with running_ledger(tmp_path / "state") as ledger:
            ledger.write(add("a"))
            modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    finally:
        os.umask(old)
    assert modes == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_one_daemon_has_it(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:

        def start_another() -> None:
            with pytest.raises(ConfigError, match="another kfd"):
                Ledger(tmp_path / "ledger.db", Health(), origin=None, default="x")

        assert in_child(start_another) == 0
        ledger.write(add("still"))
    with running_ledger(tmp_path) as ledger:
        assert keys(ledger) == {"still"}


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        ledger.write(lambda db: db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}"))
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(ConfigError, match=f"schema {len(MIGRATIONS) + 1}") as caught:
        Ledger(tmp_path / "ledger.db", Health(), origin=None, default="x")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert (tmp_path / "ledger.db").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(5000)]
)
def test_corrupt_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a ledger") as caught:
        Ledger(path, Health(), origin=None, default="x")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert str(path) in str(caught.value)
    assert caught.value.fix
    assert path.read_bytes() == content


def test_path_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "ledger.db", tmp_path):
        with pytest.raises(KfdError, match="cannot be used") as caught:
            Ledger(path, Health(), origin=None, default="x")
        assert caught.value.exit_code == ExitCode.PERMISSION


def test_full_disk_at_the_first_start_is_said_wherever_it_strikes(small_disk: Path) -> None:
    """Never a traceback, and never the advice to throw a good ledger away."""
    outcomes = set()
    for pages in range(0, 64, 2):
        state = small_disk / str(pages)
        filler = fill(small_disk, leave=4096 * pages)
        outcomes.add(fix_of_start(state / "ledger.db"))
        filler.unlink()
        shutil.rmtree(state, ignore_errors=True)
    assert "" in outcomes
    assert len(outcomes) > 1
    assert not [fix for fix in outcomes if "move it away" in fix]


def fix_of_start(path: Path) -> str:
    """What is advised where the ledger can't be opened; nothing where it can."""
    try:
        Ledger(path, Health(), origin=None, default="x")._writer.close()
    except KfdError as error:
        return error.fix
    return ""


def test_migration_keeps_a_copy_and_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_ledger(tmp_path) as ledger:
        ledger.write(add("old"))
    steps = ("CREATE TABLE second (x);", "CREATE TABLE third (x); INSERT INTO broken VALUES (1);")
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, *steps))

    def start() -> None:
        with pytest.raises(KfdError):
            Ledger(tmp_path / "ledger.db", Health(), origin=None, default="x")

    assert in_child(start) == 0  # a process that ended lets go of the file
    before = len(MIGRATIONS)
    copy = sqlite3.connect(tmp_path / f"ledger.v{before}")
    assert copy.execute("PRAGMA user_version").fetchone() == (before,)
    assert copy.execute("SELECT key FROM identity WHERE key = 'old'").fetchone() == ("old",)
    copy.close()
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, steps[0], "CREATE TABLE third (x);"))
    with running_ledger(tmp_path) as ledger:
        tables = ledger.reader().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {"second", "third", "outgoing"} <= {name for (name,) in tables}
        assert keys(ledger) == {"old"}


# What is sent


def offer(*versions: object, **changes: object) -> Offer:
    values = {"route": "lab", "topic": "t", "chunk_size": CHUNK_SIZE, "meta": {}} | changes
    return Offer(versions=versions, **values)  # type: ignore[arg-type]


def accept(ledger: Ledger, *versions: object, **changes: object) -> list[Accepted]:
    return ledger.write(lambda db: accepting.accept(db, offer(*versions, **changes)))


def accept_one(ledger: Ledger, *versions: object, **changes: object) -> bytes:
    (one,) = accept(ledger, *versions, **changes)
    assert not one.already
    assert one.tid is not None
    return one.tid


def row(ledger: Ledger, tid: bytes, columns: str = "state") -> tuple[object, ...]:
    found: tuple[object, ...] = (
        ledger.reader().execute(f"SELECT {columns} FROM outgoing WHERE tid = ?", (tid,)).fetchone()
    )
    return found


def queued(ledger: Ledger, lane: int = SMALL, **options: object) -> list[outgoing.Outgoing]:
    defaults = {"route": "lab", "topic": "t", "newest": False, "limit": 100} | options
    return outgoing.waiting(ledger.reader(), lane=lane, **defaults)  # type: ignore[arg-type]


def claim_all(ledger: Ledger, partition: int = 3) -> list[outgoing.Outgoing]:
    claims = [
        Claim(one.id, "t", one.path, TOPIC_ID, partition, CHUNK_SIZE, moved=True)
        for lane in (SMALL, LARGE)
        for one in queued(ledger, lane)
    ]
    ledger.write(lambda db: outgoing.claim(db, claims))
    return outgoing.sending(ledger.reader())


def end(ledger: Ledger, tid: bytes, state: str = "in_kafka", **changes: object) -> None:
    values = row(ledger, tid, COLUMNS)
    ending = Ending(outgoing._outgoing(values), state, 1, **changes)  # type: ignore[arg-type]
    ledger.write(lambda db: endings.end(db, [ending]))


def test_accepted_file_is_queued_with_all_that_it_was(ledger: Ledger) -> None:
    one = version(b"d/\xff\n", source=b"/x/d/\xff\n", size=CHUNK_SIZE + 1)
    tid = accept_one(ledger, one, meta={"k": "ü"}, uid=7)
    (waiting,) = queued(ledger, LARGE)
    found = waiting
    assert (found.tid, found.path, found.source) == (tid, one.path, one.source)
    assert (found.device, found.inode, found.size, found.mtime_ns, found.mode) == (
        *(one.device, one.inode, one.size, one.mtime_ns, one.mode),
    )
    assert (found.meta, found.uid, found.lane, found.acked) == ({"k": "ü"}, 7, LARGE, 0)
    assert (found.topic_id, found.partition, found.chunk_size) == (None, None, None)
    assert (waiting.topic_id, waiting.partition) == (None, None)


def test_same_version_is_accepted_once(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    for _ in range(2):
        assert accept(ledger, version()) == [Accepted(tid, already=True)]
    claim_all(ledger)
    end(ledger, tid)
    assert accept(ledger, version()) == [Accepted(tid, already=True)]
    assert known.earlier(ledger.reader(), "lab", "t", version()) == tid
    assert known.unknown(ledger.reader(), "lab", "t", [version()]) == []


@pytest.mark.parametrize("change", [{"inode": 9}, {"size": 9}, {"mtime_ns": 9}])
def test_any_change_makes_a_new_version(ledger: Ledger, change: dict[str, int]) -> None:
    first = accept_one(ledger, version())
    newer = version(**change)
    assert known.unknown(ledger.reader(), "lab", "t", [newer]) == [newer]
    assert known.earlier(ledger.reader(), "lab", "t", newer) is None
    assert accept_one(ledger, newer) != first


def test_mode_and_ctime_make_no_new_version(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    assert accept(ledger, version(mode=0o600, ctime_ns=99)) == [Accepted(tid, already=True)]


@pytest.mark.parametrize("change", [{"device": 9}, {"inode": 0}, {"inode": 0, "device": 0}])
def test_what_means_nothing_makes_no_new_version(ledger: Ledger, change: dict[str, int]) -> None:
    """A device's number changes with a reboot, inodes have no meaning while a route is polled."""
    tid = accept_one(ledger, version())
    assert accept(ledger, version(**change)) == [Accepted(tid, already=True)]
    assert known.unknown(ledger.reader(), "lab", "t", [version(**change)]) == []


def test_routes_know_files_by_themselves(ledger: Ledger) -> None:
    accept_one(ledger, version())
    assert accept_one(ledger, version(), route="other")
    assert known.unknown(ledger.reader(), "third", "t", [version()]) == [version()]
    assert accept_one(ledger, version(), topic="u")  # the route got another topic


def test_again_sends_what_was_sent(ledger: Ledger) -> None:
    first = accept_one(ledger, version())
    claim_all(ledger)
    second = accept_one(ledger, version(), again=True)
    assert second != first
    assert row(ledger, first) == ("sending",)
    assert known.earlier(ledger.reader(), "lab", "t", version()) == second


def test_file_that_was_there_before_the_route_is_only_remembered(ledger: Ledger) -> None:
    old, new = version(b"old", ctime_ns=10), version(b"new", ctime_ns=20)
    answers = accept(ledger, old, new, skip_older_ns=20)
    assert answers[0] == Accepted(None, already=True)
    assert answers[1].tid is not None
    assert [one.path for one in queued(ledger)] == [b"new"]
    assert known.unknown(ledger.reader(), "lab", "t", [old]) == []
    assert accept_one(ledger, version(b"old", ctime_ns=20, size=9), skip_older_ns=20)


def test_waiting_version_gives_way_to_its_newer_one(ledger: Ledger) -> None:
    old = accept_one(ledger, version(size=1))
    new = accept_one(ledger, version(size=2))
    assert row(ledger, old, "state, successor") == ("cancelled", new)
    assert [one.tid for one in queued(ledger)] == [new]


def test_version_being_sent_does_not_give_way(ledger: Ledger) -> None:
    old = accept_one(ledger, version(size=1))
    claim_all(ledger)
    new = accept_one(ledger, version(size=2))
    assert row(ledger, old) == ("sending",)
    assert row(ledger, new) == ("queued",)


def test_version_of_another_file_does_not_give_way(ledger: Ledger) -> None:
    """Two files were sent under one name: both are readable still, and both were accepted."""
    one = accept_one(ledger, version(source=b"/a/run.trc", inode=1))
    other = accept_one(ledger, version(source=b"/b/run.trc", inode=2))
    assert [row(ledger, tid) for tid in (one, other)] == [("queued",), ("queued",)]


def test_generations_never_go_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5000.0, 4000.0, 4000.0, 6000.0])
    monkeypatch.setattr(accepting, "time", SimpleNamespace(time=lambda: next(clock)))
    tids = [accept_one(ledger, version(size=size)) for size in range(1, 5)]
    monkeypatch.undo()
    assert [row(ledger, tid, "generation")[0] for tid in tids] == [
        5_000_000_000, 5_000_000_001, 5_000_000_002, 6_000_000_000
    ]  # fmt: skip


def test_generations_go_on_after_the_transfers_were_pruned(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tid = accept_one(ledger, version(size=1))
    (generation,) = row(ledger, tid, "generation")
    claim_all(ledger)
    end(ledger, tid)
    assert ledger.write(lambda db: outgoing.prune(db, 2**40, 10)) == 1
    monkeypatch.setattr(accepting, "time", SimpleNamespace(time=lambda: 1000.0))
    newer = accept_one(ledger, version(size=2))
    assert row(ledger, newer, "generation") == (generation + 1,)


def test_only_queued_transfers_can_be_claimed(ledger: Ledger) -> None:
    first, second = accept_one(ledger, version(b"a")), accept_one(ledger, version(b"b"))
    claims = [
        Claim(one.id, "t", one.path, TOPIC_ID, 5, CHUNK_SIZE, moved=True) for one in queued(ledger)
    ]
    end(ledger, first, "cancelled")
    claimed = ledger.write(lambda db: outgoing.claim(db, claims))
    assert claimed == {claims[1].id}
    assert row(ledger, first, "state, partition") == ("cancelled", None)
    columns = "state, topic_id, partition, chunk_size"
    assert row(ledger, second, columns) == ("sending", TOPIC_ID, 5, CHUNK_SIZE)
    assert ledger.write(lambda db: outgoing.claim(db, claims)) == set()


def test_partition_of_a_path_is_kept_for_its_next_version(ledger: Ledger) -> None:
    accept_one(ledger, version(size=1))
    claim_all(ledger, partition=6)
    accept_one(ledger, version(size=2))
    (waiting,) = queued(ledger)
    assert (waiting.topic_id, waiting.partition) == (TOPIC_ID, 6)


def test_progress_is_what_a_resume_starts_from(ledger: Ledger) -> None:
    accept_one(ledger, version(size=9 * CHUNK_SIZE))
    (one,) = claim_all(ledger)
    progress = [Progress(one.id, 4, 1234, 99.5)]
    ledger.write(lambda db: outgoing.note_progress(db, progress))
    (one,) = outgoing.sending(ledger.reader())
    assert (one.acked, one.first_offset, one.acked_at) == (4, 1234, 99.5)


def test_what_has_ended_stays_ended(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    claim_all(ledger)
    end(ledger, tid)
    end(ledger, tid, "failed", reason="late")
    assert row(ledger, tid, "state, reason") == ("in_kafka", "")


def test_forgetting_forgets_the_version_unless_a_newer_one_is_known(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1))
    claim_all(ledger)
    newer = accept_one(ledger, version(size=2))
    end(ledger, tid, "cancelled", forget=True)
    assert known.earlier(ledger.reader(), "lab", "t", version(size=2)) == newer
    claim_all(ledger)
    end(ledger, newer, "cancelled", forget=True)
    assert known.unknown(ledger.reader(), "lab", "t", [version(size=2)]) == [version(size=2)]


def test_start_over_takes_the_place_of_a_transfer(ledger: Ledger) -> None:
    old = accept_one(ledger, version(size=2 * CHUNK_SIZE), meta={"k": "v"}, uid=7)
    (one,) = claim_all(ledger, partition=4)
    new = ledger.write(lambda db: endings.start_over(db, one, "why"))
    assert row(ledger, old, "state, reason, successor") == ("cancelled", "why", new)
    (waiting,) = queued(ledger, LARGE)
    again = waiting
    assert (again.tid, again.path, again.source, again.size) == (
        *(new, one.path, one.source, one.size),
    )
    assert (again.meta, again.uid, again.acked) == ({"k": "v"}, 7, 0)
    assert waiting.partition == 4
    assert known.earlier(ledger.reader(), "lab", "t", version(size=2 * CHUNK_SIZE)) == new


def test_older_version_that_starts_over_does_not_overtake_the_newer(ledger: Ledger) -> None:
    """Newest wins: the same old bytes again don't become the newest version of their name."""
    accept_one(ledger, version(size=1, source=b"/a/run.trc"))
    (one,) = claim_all(ledger)
    newer = accept_one(ledger, version(size=2, source=b"/b/run.trc"))
    again = ledger.write(lambda db: endings.start_over(db, one, "the topic was made again"))
    assert row(ledger, again, "generation") < row(ledger, newer, "generation")
    assert known.earlier(ledger.reader(), "lab", "t", version(size=2)) == newer


def test_start_over_of_what_has_ended_changes_nothing(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    (one,) = claim_all(ledger)
    end(ledger, tid)
    assert ledger.write(lambda db: endings.start_over(db, one, "judged by an old look")) is None
    assert row(ledger, tid) == ("in_kafka",)
    assert queued(ledger) == []


def test_changed_file_is_queued_with_the_end_of_its_older_version(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1), meta={"k": "v"}, uid=7)
    claim_all(ledger)
    newer = version(size=2)
    end(ledger, tid, "cancelled", forget=True, successor=newer, not_before=1.0)
    (waiting,) = queued(ledger)
    again = waiting
    assert row(ledger, tid, "state, successor") == ("cancelled", again.tid)
    assert (again.size, again.meta, again.uid, again.not_before) == (2, {"k": "v"}, 7, 1.0)
    assert again.generation > row(ledger, tid, "generation")[0]  # type: ignore[operator]
    assert known.earlier(ledger.reader(), "lab", "t", newer) == again.tid


def test_what_has_ended_gets_no_successor(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1))
    claim_all(ledger)
    end(ledger, tid)
    end(ledger, tid, "cancelled", forget=True, successor=version(size=2))
    assert queued(ledger) == []
    assert known.earlier(ledger.reader(), "lab", "t", version(size=1)) == tid


def test_postponed_transfer_is_not_due(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1))
    (waiting,) = queued(ledger)
    newer = version(size=5 * CHUNK_SIZE, mtime_ns=77, inode=8)
    ledger.write(lambda db: endings.postpone(db, waiting, newer, CHUNK_SIZE, time.time() + 9))
    assert queued(ledger, SMALL) == queued(ledger, LARGE) == []
    columns = "state, size, mtime_ns, inode, lane"
    assert row(ledger, tid, columns) == ("queued", newer.size, 77, 8, LARGE)
    assert known.earlier(ledger.reader(), "lab", "t", newer) == tid


def test_clock_set_back_postpones_nothing(ledger: Ledger) -> None:
    accept_one(ledger, version())
    (waiting,) = queued(ledger)
    a_year_on = time.time() + 365 * 86400
    ledger.write(lambda db: endings.postpone(db, waiting, version(size=2), CHUNK_SIZE, a_year_on))
    assert [one.size for one in queued(ledger)] == [2]


def test_oldest_or_newest_first_of_one_lane(ledger: Ledger) -> None:
    for n in range(6):
        accept_one(ledger, version(b"%d" % n, size=1 if n % 2 else 2 * CHUNK_SIZE))
    paths = [one.path for one in queued(ledger, SMALL, limit=2)]
    assert paths == [b"1", b"3"]
    paths = [one.path for one in queued(ledger, LARGE, newest=True, limit=2)]
    assert paths == [b"4", b"2"]
    assert queued(ledger, topic="other") == queued(ledger, route="") == []


def test_destinations_are_those_with_work(ledger: Ledger) -> None:
    done = accept_one(ledger, version(), topic="done")
    end(ledger, done, "cancelled")
    accept_one(ledger, version(b"x"), route="", topic="u")
    claim_all(ledger)
    accept_one(ledger, version(b"y"))
    assert sorted(outgoing.destinations(ledger.reader())) == [("", "u"), ("lab", "t")]


def test_known_files_are_paged_and_forgotten(ledger: Ledger) -> None:
    files = [version(path) for path in (b"a", b"a/b", b"b", b"\xff")]
    accept(ledger, *files)

    def page(after: bytes, limit: int, route: str = "lab") -> list[tuple[bytes, bytes]]:
        return known.after(ledger.reader(), route, "t", after, limit)

    pairs = [(one.path, one.source) for one in files]
    assert page(b"", 2) == pairs[:2]
    assert page(b"a/b", 9) == pairs[2:]
    ledger.write(lambda db: known.forget(db, "lab", "t", [b"a", b"\xff"]))
    assert page(b"", 9) == pairs[1:3]
    assert page(b"", 9, "other") == []
    assert known.destinations(ledger.reader()) == [("lab", "t")]


def test_route_is_born_once(ledger: Ledger) -> None:
    first = ledger.write(lambda db: accepting.born_ns(db, "lab"))
    assert ledger.write(lambda db: accepting.born_ns(db, "lab")) == first
    assert ledger.write(lambda db: accepting.born_ns(db, "other")) >= first


def test_prune_takes_only_what_ended_long_ago(ledger: Ledger) -> None:
    ended = accept_one(ledger, version(b"ended"))
    end(ledger, ended, "cancelled")
    accept_one(ledger, version(b"sending"))
    claim_all(ledger)
    accept_one(ledger, version(b"queued"))
    assert ledger.write(lambda db: outgoing.prune(db, 1.0, 10)) == 0
    assert ledger.write(lambda db: outgoing.prune(db, 2**40, 0)) == 0
    assert ledger.write(lambda db: outgoing.prune(db, 2**40, 10)) == 1
    left = ledger.reader().execute("SELECT path FROM outgoing ORDER BY id").fetchall()
    assert left == [(b"sending",), (b"queued",)]
    assert accept(ledger, version(b"ended"))[0].already  # known as long as it is there


# What is received


def received(sent: Sent, name: bytes = b"run.trc", **changes: object) -> Received:
    values = {"partition": 0, "first_offset": 5, "device": 1, "inode": 2} | changes
    return Received(
        *("archive", TOPIC_ID, values["partition"], values["first_offset"]),  # type: ignore[arg-type]
        *(sent.tid, sent.begin, bytes(32), name, sent.mtime_ns),
        *(values["device"], values["inode"]),  # type: ignore[arg-type]
    )


def publish(ledger: Ledger, *batch: Received) -> None:
    ledger.write(lambda db: incoming.intend(db, batch))
    ledger.write(lambda db: incoming.conclude(db, batch, []))


def closed_in(ledger: Ledger, partition: int, tids: list[bytes]) -> set[bytes]:
    return incoming.closed(ledger.reader(), "archive", TOPIC_ID, partition, tids)


def newest(ledger: Ledger, sent: Sent) -> incoming.Published | None:
    return incoming.newest(ledger.reader(), "archive", TOPIC_ID, sent.origin, [sent.path]).get(
        sent.path
    )


def test_published_transfer_is_closed_and_the_newest(ledger: Ledger) -> None:
    sent = Sent(b"abc")
    ledger.write(lambda db: incoming.intend(db, [received(sent)]))
    assert newest(ledger, sent) is None
    (intent,) = incoming.intents(ledger.reader(), "archive")
    assert (intent.tid, intent.name, intent.inode) == (sent.tid, b"run.trc", 2)
    ledger.write(lambda db: incoming.conclude(db, [received(sent)], []))
    assert incoming.intents(ledger.reader(), "archive") == []
    found = newest(ledger, sent)
    assert found is not None
    assert (found.generation, found.name, found.size) == (sent.generation, b"run.trc", 3)
    tids = [sent.tid, bytes(16)]
    assert closed_in(ledger, 0, tids) == {sent.tid}
    assert incoming.closed(ledger.reader(), "archive", "topic-2", 0, tids) == set()
    assert incoming.closed(ledger.reader(), "other", TOPIC_ID, 0, tids) == set()


def test_more_tids_than_one_question_takes(ledger: Ledger) -> None:
    batch = [received(Sent(b"x", b"%d" % n)) for n in range(1300)]
    publish(ledger, *batch)
    tids = [one.tid for one in batch]
    assert closed_in(ledger, 0, tids) == set(tids)


def test_newest_published_version_never_goes_back(ledger: Ledger) -> None:
    new, old = Sent(b"new", generation=20), Sent(b"old", generation=10)
    publish(ledger, received(new, b"new"))
    publish(ledger, received(old, b"old"))
    found = newest(ledger, new)
    assert found is not None
    assert (found.generation, found.name) == (20, b"new")


def test_skipped_and_withdrawn_transfers_are_as_if_never_seen(ledger: Ledger) -> None:
    one, other = received(Sent(b"a")), received(Sent(b"b"))
    ledger.write(lambda db: incoming.intend(db, [one, other]))
    ledger.write(lambda db: incoming.conclude(db, [], [one]))
    ledger.write(lambda db: incoming.withdraw(db, [other]))
    tids = [one.tid, other.tid]
    assert closed_in(ledger, 0, tids) == set()
    publish(ledger, one, other)


def test_withdraw_leaves_what_has_ended(ledger: Ledger) -> None:
    one = received(Sent(b"a"))
    publish(ledger, one)
    ledger.write(lambda db: incoming.withdraw(db, [one]))
    assert closed_in(ledger, 0, [one.tid]) == {one.tid}


def test_rejected_transfer_has_its_reason(ledger: Ledger) -> None:
    one = received(Sent(b"a"))
    ledger.write(lambda db: incoming.intend(db, [one]))
    ledger.write(lambda db: incoming.reject(db, [(one, "quarantined", "why")]))
    found = queries.find(ledger.reader(), "here", one.tid.hex())
    assert (found.state, found.reason) == (State.QUARANTINED, "why")
    assert incoming.intents(ledger.reader(), "archive") == []
    assert newest(ledger, Sent(b"a")) is None


def test_intents_are_settled(ledger: Ledger) -> None:
    done, void = received(Sent(b"done", b"done"), b"done"), received(Sent(b"void", b"void"))
    ledger.write(lambda db: incoming.intend(db, [done, void]))
    ledger.write(lambda db: incoming.rename_intent(db, received_as(done, b"other")))
    by_tid = {one.tid: one for one in incoming.intents(ledger.reader(), "archive")}
    assert by_tid[done.tid].name == b"other"
    ledger.write(lambda db: incoming.settle(db, "archive", [by_tid[done.tid]], [by_tid[void.tid]]))
    tids = [done.tid, void.tid]
    assert closed_in(ledger, 0, tids) == {done.tid}
    found = newest(ledger, Sent(b"done", b"done"))
    assert found is not None
    assert found.name == b"other"


def received_as(one: Received, name: bytes) -> Received:
    return Received(
        *(one.route, one.topic_id, one.partition, one.first_offset, one.tid, one.begin),
        *(one.digest, name, one.mtime_ns, one.device, one.inode),
    )


def test_received_is_pruned_only_below_the_low_watermark(ledger: Ledger) -> None:
    below, above = received(Sent(b"a", b"a"), first_offset=4), received(Sent(b"b", b"b"))
    elsewhere = received(Sent(b"c", b"c"), first_offset=4, partition=1)
    publish(ledger, below, above, elsewhere)
    intended = received(Sent(b"d", b"d"), first_offset=1)
    ledger.write(lambda db: incoming.intend(db, [intended]))

    def prune(topic_id: str, older_than: float) -> int:
        return ledger.write(lambda db: incoming.prune(db, topic_id, 0, 5, older_than, 10))

    assert prune(TOPIC_ID, 1.0) == 0
    assert prune("topic-2", 2**40) == 0
    assert prune(TOPIC_ID, 2**40) == 1
    assert prune(TOPIC_ID, 2**40) == 0
    tids = [one.tid for one in (below, above, elsewhere, intended)]
    assert closed_in(ledger, 0, tids) == {above.tid, intended.tid}
    assert closed_in(ledger, 1, tids) == {elsewhere.tid}
    assert newest(ledger, Sent(b"a", b"a")) is not None  # or an older version could come again


def test_bad_records_are_added_up(ledger: Ledger) -> None:
    def count(*bad: BadRecord) -> None:
        ledger.write(lambda db: incoming.count_bad(db, "archive", bad))

    count(BadRecord("foreign", 2, "t", 0, 1), BadRecord("gap", 1, "t", 0, 2))
    count(BadRecord("foreign", 3, "t", 1, 7))
    assert incoming.bad_counts(ledger.reader(), "archive") == {"foreign": 5, "gap": 1}
    assert incoming.bad_counts(ledger.reader(), "other") == {}


# Questions


def test_found_by_whole_id_and_by_its_end(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(b"a\n"), meta={})
    other = accept_one(ledger, version(b"b"))
    for text in (tid.hex(), tid.hex()[-8:], tid.hex().upper()):
        found = queries.find(ledger.reader(), "here", text)
        assert (found.tid, found.direction, found.origin) == (
            *(tid.hex(), Direction.UPLOAD, "here"),
        )
        assert (found.path, found.state) == ("a\\x0a", State.QUEUED)
    assert other != tid


def test_file_that_was_sent_and_received_here_is_found_as_sent(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    publish(ledger, received(Sent(b"abc", tid=tid)))
    for text in (tid.hex(), tid.hex()[-8:]):
        assert queries.find(ledger.reader(), "here", text).direction is Direction.UPLOAD


def test_end_that_several_share_is_refused(ledger: Ledger) -> None:
    one, other = (Sent(b"a", b"%d" % n, bytes([n]) * 12 + b"\1\2\3\4") for n in range(2))
    publish(ledger, received(one), received(other))
    with pytest.raises(UsageError, match="several"):
        queries.find(ledger.reader(), "here", "01020304")
    found = queries.find(ledger.reader(), "here", one.tid.hex())
    assert found.tid == one.tid.hex()


@pytest.mark.parametrize("text", ["", "1", "xyz", "0102030", "010203045", "g" * 8, "0" * 31])
def test_what_is_no_id_is_refused(ledger: Ledger, text: str) -> None:
    with pytest.raises(UsageError, match="no transfer id"):
        queries.find(ledger.reader(), "here", text)


@pytest.mark.parametrize("text", ["00000000", "0" * 32])
def test_unknown_id_is_said(ledger: Ledger, text: str) -> None:
    with pytest.raises(NoSuchTransferError) as caught:
        queries.find(ledger.reader(), "here", text)
    assert caught.value.exit_code == ExitCode.NO_SUCH_TRANSFER


def test_newest_of_both_directions(ledger: Ledger) -> None:
    sent = [accept_one(ledger, version(b"%d" % n)) for n in range(4)]
    end(ledger, sent[0], "failed", reason="why", fix="how")
    publish(ledger, received(Sent(b"x", b"in")))

    def paths(state: State | None, route: str | None, limit: int = 9) -> list[str]:
        found = queries.newest(ledger.reader(), "here", state, route, limit)
        return [one.path for one in found]

    assert set(paths(None, None)) == {"0", "1", "2", "3", "in"}
    assert len(paths(None, None, 2)) == 2
    assert paths(State.QUEUED, None, 2) == ["3", "2"]
    assert paths(State.FAILED, "lab") == ["0"]
    assert paths(State.PUBLISHED, None) == ["in"]
    assert paths(None, "archive") == ["in"]
    assert paths(State.QUEUED, "archive") == []


def test_transfer_being_published_is_listed_as_receiving(ledger: Ledger) -> None:
    ledger.write(lambda db: incoming.intend(db, [received(Sent(b"x", b"in"))]))
    for state in (None, State.RECEIVING):
        (found,) = queries.newest(ledger.reader(), "here", state, None, 9)
        assert found.state == State.RECEIVING


class Explaining:
    """A connection that notes the plans of all that is asked of it."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self.plans: list[str] = []

    def execute(self, sql: str, values: object = ()) -> sqlite3.Cursor:
        rows = self._reader.execute(f"EXPLAIN QUERY PLAN {sql}", values)  # type: ignore[arg-type]
        self.plans.extend(detail for *_, detail in rows.fetchall())
        return self._reader.execute(sql, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ask",
    [
        lambda db: outgoing.waiting(db, "lab", "t", SMALL, newest=False, limit=9),
        lambda db: outgoing.waiting(db, "lab", "t", LARGE, newest=True, limit=9),
        outgoing.sending,
        outgoing.destinations,
        queries.tallies,
        lambda db: known.unknown(db, "lab", "t", [version()]),
        lambda db: known.after(db, "lab", "t", b"a", 9),
        lambda db: incoming.intents(db, "archive"),
        lambda db: incoming.closed(db, "archive", TOPIC_ID, 0, [bytes(16)] * 3),
        lambda db: incoming.newest(db, "archive", TOPIC_ID, "o", [b"p"]),
        lambda db: queries.find(db, "here", "0" * 32),
    ],
    ids=[
        *("waiting", "waiting newest", "sending", "destinations", "tallies"),
        *("unknown", "known_after"),
        *("intents", "closed", "latest", "find"),
    ],
)
def test_nothing_asked_in_passing_reads_the_history(
    ledger: Ledger, ask: Callable[[object], object]
) -> None:
    publish(ledger, received(Sent(b"x", tid=bytes(16))))  # else ``find`` finds nothing
    # what waits or is under way is in small indexes of its own; the tally has a row a route
    small = ("outgoing_queued", "outgoing_sending", "incoming_publishing", "SCAN tally")
    reader = Explaining(ledger.reader())
    ask(reader)
    assert reader.plans
    for detail in reader.plans:
        assert not detail.startswith("SCAN") or any(name in detail for name in small), detail
        assert ask is outgoing.sending or "TEMP B-TREE FOR ORDER BY" not in detail, detail


# Counts


class Counting(RuleBasedStateMachine):
    """Whatever happens to transfers, in any order, the tally is what counting them gives."""

    def __init__(self) -> None:
        super().__init__()
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        for step in MIGRATIONS:
            self.db.executescript(step)
        identity = {"origin": b"lab2", "instance": bytes(16)}
        self.db.executemany("INSERT INTO identity VALUES (?, ?)", identity.items())
        self.pruned: Counter[tuple[object, ...]] = Counter()
        self.pruned_size: Counter[tuple[object, ...]] = Counter()
        self.intended: list[Received] = []
        self.size = 0

    def teardown(self) -> None:
        self.db.close()

    paths = st.sampled_from([b"a", b"b", b"c"])
    sizes = st.sampled_from([0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 10 * CHUNK_SIZE])
    routes = st.sampled_from(["lab", ""])

    def rows(self, state: str) -> list[outgoing.Outgoing]:
        found = self.db.execute(
            f"SELECT {COLUMNS} FROM outgoing WHERE state = ?", (state,)
        ).fetchall()
        return [outgoing._outgoing(one) for one in found]

    def some(self, data: st.DataObject, ones: list[object]) -> list[object]:
        return data.draw(st.lists(st.sampled_from(ones), unique_by=id)) if ones else []

    @rule(path=paths, size=sizes, route=routes, again=st.booleans(), skip=st.integers(0, 9))
    def accept(self, path: bytes, size: int, route: str, again: bool, skip: int) -> None:
        one = offer(version(path, size=size), route=route, again=again, skip_older_ns=skip)
        accepting.accept(self.db, one)

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        chosen = self.some(data, self.rows("queued"))  # type: ignore[arg-type]
        claims = [
            Claim(one.id, one.topic, one.path, TOPIC_ID, 0, CHUNK_SIZE, moved=True)
            for one in chosen
        ]
        outgoing.claim(self.db, claims)

    @rule(data=st.data(), state=st.sampled_from(["in_kafka", "failed", "cancelled"]))
    def end(self, data: st.DataObject, state: str) -> None:
        chosen = self.some(data, [*self.rows("queued"), *self.rows("sending")])
        again = data.draw(st.booleans())
        size = data.draw(st.none() | self.sizes)
        batch = [
            Ending(
                one, state, 1, forget=again, digest=bytes(32),
                successor=None if size is None else version(one.path, size=size),
            )
            for one in chosen
        ]  # fmt: skip
        endings.end(self.db, batch)

    @rule(data=st.data())
    def start_over(self, data: st.DataObject) -> None:
        for one in self.some(data, [*self.rows("sending"), *self.rows("cancelled")])[:1]:
            endings.start_over(self.db, one, "why")

    @rule(path=paths, size=sizes, route=routes)
    def send(self, path: bytes, size: int, route: str) -> None:
        accepting.accept(self.db, offer(version(path, size=size), route=route, again=True))
        batch = [Ending(one, "in_kafka", 1, digest=bytes(32)) for one in self.rows("queued")]
        endings.end(self.db, batch)

    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def hear(self, data: st.DataObject, outcome: Outcome) -> None:
        for one in [*self.rows("in_kafka")[-2:], *self.rows("sending")[-1:]]:
            generation = data.draw(st.sampled_from([None, one.generation, one.generation + 1]))
            receipt = Receipt(one.tid, outcome, bytes(32), generation)
            heard = [Heard("lab2", bytes(16), receipt, ours=True)]
            rules = Rules({"lab": data.draw(st.integers(1, 2))}, frozenset({("lab", "t")}))
            delivery.hear(self.db, "t", heard, {}, [], rules)
            delivery.hear_early(self.db, rules, 10)

    @rule()
    def resend(self) -> None:
        self.db.execute("UPDATE outgoing SET resend_at = 1 WHERE resend_at IS NOT NULL")
        resending.due(self.db, 10)

    @rule()
    def topic_is_made_again(self) -> None:
        resending.from_old_topic(self.db, "t", "another", 0, 10)

    @rule(data=st.data(), size=sizes)
    def postpone(self, data: st.DataObject, size: int) -> None:
        for one in self.some(data, self.rows("queued"))[:1]:  # type: ignore[arg-type]
            newer = version(one.path, source=one.source, size=size)
            endings.postpone(self.db, one, newer, CHUNK_SIZE, 0.0)

    @rule()
    def prune_outgoing(self) -> None:
        self.remember("upload", "outgoing", "ended_at IS NOT NULL")
        outgoing.prune(self.db, 2**40, 1000)

    @rule(path=paths, size=sizes)
    def intend(self, path: bytes, size: int) -> None:
        one = received(Sent(bytes(size), path))
        incoming.intend(self.db, [one])
        self.intended.append(one)

    def take(self, data: st.DataObject) -> list[Received]:
        chosen = self.some(data, self.intended)  # type: ignore[arg-type]
        self.intended = [one for one in self.intended if one not in chosen]
        return chosen  # type: ignore[return-value]

    @rule(data=st.data())
    def conclude(self, data: st.DataObject) -> None:
        incoming.conclude(self.db, self.take(data), self.take(data))

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        incoming.withdraw(self.db, self.take(data))

    @rule(data=st.data(), state=st.sampled_from(["quarantined", "superseded"]))
    def reject(self, data: st.DataObject, state: str) -> None:
        fresh = [received(Sent(b"never intended"))] if data.draw(st.booleans()) else []
        incoming.reject(self.db, [(one, state, "why") for one in self.take(data) + fresh])

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        done = {one.tid for one in self.some(data, self.intended)}  # type: ignore[arg-type]
        intents = incoming.intents(self.db, "archive")
        published = [one for one in intents if one.tid in done]
        void = [one for one in intents if one.tid not in done]
        incoming.settle(self.db, "archive", published, void)
        self.intended = []

    @rule()
    def prune_incoming(self) -> None:
        self.remember("download", "incoming", "ended_at IS NOT NULL")
        incoming.prune(self.db, TOPIC_ID, 0, 2**40, 2**40, 1000)

    def remember(self, direction: str, table: str, condition: str) -> None:
        for key, count, size in self.counted(direction, table, condition):
            self.pruned[key] += count
            self.pruned_size[key] += size

    def counted(
        self, direction: str, table: str, condition: str
    ) -> list[tuple[tuple[object, ...], int, int]]:
        rows = self.db.execute(
            f"SELECT route, topic, state, count(*), sum(size) FROM {table}"
            f" WHERE {condition} GROUP BY 1, 2, 3"
        ).fetchall()
        return [((direction, *key), count, size) for *key, count, size in rows]

    @invariant()
    def tally_is_what_counting_gives(self) -> None:
        counts, sizes = self.pruned.copy(), self.pruned_size.copy()
        tables = (("upload", "outgoing", "1"), ("download", "incoming", "ended_at IS NOT NULL"))
        for direction, table, condition in tables:
            for key, count, size in self.counted(direction, table, condition):
                counts[key] += count
                sizes[key] += size
        tallies = [one for one in queries.tallies(self.db) if one.count or one.size]
        keyed = {(one.direction, one.route, one.topic, one.state): one for one in tallies}
        assert {key: one.count for key, one in keyed.items()} == dict(counts)
        assert {key: one.size for key, one in keyed.items() if one.size} == dict(+sizes)

    @invariant()
    def generations_only_grow(self) -> None:
        rows = self.db.execute(
            "SELECT count(*) FROM outgoing JOIN outgoing_path USING (topic, path)"
            " WHERE outgoing.generation > outgoing_path.generation"
        )
        assert rows.fetchone() == (0,)


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_tally_names_the_last_one(ledger: Ledger) -> None:
    for name in (b"a", b"b"):
        end(ledger, accept_one(ledger, version(name)), "cancelled")
    (one,) = [one for one in queries.tallies(ledger.reader()) if one.state == "cancelled"]
    assert (one.count, one.size, one.last) == (2, 6, b"b")
    assert one.last_at is not None


def test_readers_of_many_threads_see_commits_whole(ledger: Ledger) -> None:
    """Rows that are written in one operation are seen both or not at all."""
    stop = threading.Event()
    torn: list[int] = []

    def look() -> None:
        while not stop.is_set():
            (count,) = ledger.reader().execute("SELECT count(*) FROM identity").fetchone()
            if count % 2:
                torn.append(count)
        close_reader(ledger)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(100):
        ledger.write(lambda db, n=n: (add(f"{n}a")(db), add(f"{n}b")(db)))
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_stage_of_the_ledger_ends_in_order(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        assert ledger.alive
        assert [one.name for one in threading.enumerate()].count("ledger") == 1
    assert not ledger.alive
