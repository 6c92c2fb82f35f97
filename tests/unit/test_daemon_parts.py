"""Small parts of the daemon: health, stages, rates, placement, topics, logging, sd_notify."""

from __future__ import annotations

import gc
import io
import logging
import os
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon import journal, rates
from kfd.daemon.health import Health
from kfd.daemon.housekeeping import Housekeeper
from kfd.daemon.ledger import accepting, known
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.notify import Notifier, watchdog_interval
from kfd.daemon.placement import RUN_BYTES, Placement
from kfd.daemon.rates import WINDOW_SECONDS, Rates
from kfd.daemon.stage import Stage
from kfd.daemon.topics import TopicWatch
from kfd.kafka import RECORD_OVERHEAD, BrokerAwayError, Topic, TopicRefusedError
from tests.parts import running, running_ledger, version_of
from tests.privileges import unprivileged
from tests.support import eventually

# Health


def test_problem_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with caplog.at_level(logging.INFO, "kfd"):
        for _ in range(3):
            health.report("lab", "disk", "full", "free space")
        health.report("lab", "disk", "fuller", "free space")
        assert [one.text for one in health.problems()] == ["fuller"]
        for _ in range(2):
            health.clear("lab", "disk")
    assert caplog.messages == [
        "lab: full (fix: free space)", "lab: fuller (fix: free space)",
        "lab: recovered from: fuller",
    ]  # fmt: skip
    assert health.problems() == []


def test_problem_keeps_its_beginning_and_the_oldest_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health, clock = Health(), iter([1.0, 2.0])
    monkeypatch.setattr("kfd.daemon.health.time", SimpleNamespace(time=lambda: next(clock)))
    health.report("a", "x", "one")
    health.report("b", "x", "other")
    health.report("a", "x", "changed")
    assert [(one.scope, one.text, one.since) for one in health.problems()] == [
        ("a", "changed", 1.0), ("b", "other", 2.0)
    ]  # fmt: skip


# Stages


class Once(Stage):
    """Runs until it is stopped, or dies of ``error``."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__("once")
        self.error = error

    def run(self) -> None:
        if self.error is not None:
            raise self.error
        self.stopping.wait(30)


def test_stage_is_a_named_thread_that_ends_when_asked() -> None:
    stage = Once()
    assert stage.join(0)  # not started: nothing to wait for
    with running(stage):
        assert stage.alive
        assert "once" in {thread.name for thread in threading.enumerate()}
        assert not stage.join(0)
    assert not stage.alive
    stage.stop()


@pytest.mark.parametrize("error", [ValueError("bug"), SystemExit(3), KeyboardInterrupt()])
def test_death_of_a_stage_is_told_with_its_reason(error: BaseException) -> None:
    deaths: list[tuple[Stage, BaseException]] = []
    stage = Once(error)
    stage.start(lambda *death: deaths.append(death))
    assert stage.join(30)
    assert deaths == [(stage, error)]


# Rates


def test_rate_is_the_mean_of_the_last_full_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    seen = Rates()
    for second in range(20):
        clock[0] = 100.5 + second
        seen.add("lab", "t", 1000)
    clock[0] = 120.0
    assert seen.rate("lab", "t") == 1000
    assert seen.rate("lab", "other") == seen.rate("x", "t") == 0
    clock[0] = 122.9
    assert seen.rate("lab", "t") == 1000 * (WINDOW_SECONDS - 2) / WINDOW_SECONDS
    clock[0] = 200
    assert seen.rate("lab", "t") == 0
    assert len(seen._buckets["lab", "t"]) <= WINDOW_SECONDS + 1


# Placement


def test_least_loaded_partition_is_chosen() -> None:
    placement = Placement("id", 4)
    for partition, size in enumerate([RUN_BYTES + 5, 1, 9, 5]):
        placement.add(partition, size)
    assert placement.choose(None, None) == 1
    placement.add(1, RUN_BYTES)
    placement.add(2, -9)
    assert placement.choose(None, None) == 2


def test_small_files_stay_together_until_they_fill_a_batch() -> None:
    placement = Placement("id", 5)
    chosen = []
    for _ in range(100):
        chosen.append(placement.choose(None, None))
        placement.add(chosen[-1], RUN_BYTES // 10)
    assert Counter(chosen) == dict.fromkeys(range(5), 20)
    assert len([one for one, next_one in pairwise(chosen) if one != next_one]) == 9


@given(st.integers(1, 3000), st.data())
def test_partition_of_a_path_is_kept_for_its_topic(partitions: int, data: st.DataObject) -> None:
    placement = Placement("id", partitions)
    had = data.draw(st.integers(0, partitions + 10))
    assert placement.choose("id", had) == had
    assert 0 <= placement.choose("another", had) < partitions
    assert 0 <= placement.choose(None, None) < partitions
    placement.add(had, 10)  # more than there are: the topic has shrunk, or was seen so


# Topics


class Cluster:
    """What the brokers would answer."""

    def __init__(self, *topics: Topic) -> None:
        self.known = {topic.name: topic for topic in topics}
        self.away = False
        self.made: list[str] = []
        self.refuses = False
        self.limit_looks = 0

    def brokers(self) -> int:
        if self.away:
            raise BrokerAwayError("Connection refused")
        return 3

    def topics(self, names: Any) -> dict[str, Topic | None]:
        return {name: self.known.get(name) for name in names}

    def limits(self, topic: Topic) -> Topic:
        self.limit_looks += 1
        return self.known[topic.name]

    def create(self, name: str) -> None:
        if self.refuses:
            raise TopicRefusedError("not authorized")
        self.made.append(name)
        self.known[name] = Topic(name, "new-id", 1)


TOPIC = Topic("t", "id-1", 8, max_record=1_000_000)


def watch(cluster: Cluster, health: Health, *, create: bool = False) -> TopicWatch:
    return TopicWatch(cluster, health, create=create)  # type: ignore[arg-type]


def texts(health: Health) -> list[str]:
    return [one.text for one in health.problems()]


def test_missing_topic_degrades_its_routes_until_it_is_there() -> None:
    health, cluster = Health(), Cluster()
    topics = watch(cluster, health)
    changes: list[int] = []
    topics.call_on_change(lambda: changes.append(1))
    topics.want_to_send("t", "lab", 1024)
    topics.want_to_read("t", "archive", 0)
    assert not topics._look()
    assert {one.scope for one in health.problems()} == {"lab", "archive"}
    assert "kafka-topics.sh --create --topic t" in health.problems()[0].fix
    assert topics.sendable("t") is topics.readable("t") is None
    cluster.known["t"] = TOPIC
    assert topics._look()
    assert health.problems() == []
    assert topics.sendable("t") == topics.readable("t") == TOPIC
    assert changes == [1]
    topics._look()
    assert changes == [1]


def test_missing_topic_is_made_where_that_is_allowed() -> None:
    health, cluster = Health(), Cluster()
    topics = watch(cluster, health, create=True)
    topics.want_to_send("t", "lab", 1024)
    topics._look()
    assert cluster.made == ["t"]
    assert topics._look()
    assert health.problems() == []
    cluster.refuses = True
    topics.want_to_send("u", "other", 1024)
    topics._look()
    assert "could not be made: not authorized" in texts(health)[0]


def test_broker_that_is_away_changes_nothing_that_is_known() -> None:
    health, cluster = Health(), Cluster(TOPIC)
    topics = watch(cluster, health)
    topics.want_to_send("t", "lab", 1024)
    assert topics._look()
    cluster.away = True
    assert not topics._look()
    assert texts(health) == ["no broker answers: Connection refused"]
    assert (topics.sendable("t"), topics.brokers_up, topics.brokers_known) == (TOPIC, 0, 3)
    cluster.away = False
    assert topics._look()
    assert health.problems() == []


def test_compacted_topic_is_refused_by_both_sides() -> None:
    health = Health()
    topics = watch(Cluster(Topic("t", "id-1", 8, compacted=True)), health)
    topics.want_to_send("t", "lab", 1024)
    topics.want_to_read("t", "archive", 0)
    assert not topics._look()
    assert topics.sendable("t") is topics.readable("t") is None
    assert {one.scope for one in health.problems()} == {"lab", "archive"}


@given(st.integers(1, 2**21), st.integers(10, 24).map(lambda bits: 1 << bits))
def test_chunk_size_that_is_advised_fits(max_record: int, chunk_size: int) -> None:
    health = Health()
    topics = watch(Cluster(Topic("t", "id-1", 8, max_record)), health)
    topics.want_to_send("t", "lab", chunk_size)
    fits = topics._look()
    assert fits is (chunk_size + RECORD_OVERHEAD <= max_record)
    if not fits:
        (problem,) = health.problems()
        assert f"{max_record} bytes" in problem.text
        assert f"chunk_size {chunk_size} does not fit" in problem.text
        assert "max.message.bytes" in problem.fix
        if problem.fix.startswith("chunk_size: "):
            advised = int(problem.fix.split()[1].removesuffix("KiB,")) * 1024
            assert advised + RECORD_OVERHEAD <= max_record
        assert topics.why_not_sendable("t") is not None


def test_small_records_keep_nobody_from_reading() -> None:
    health = Health()
    topics = watch(Cluster(Topic("t", "id-1", 8, max_record=1000)), health)
    topics.want_to_read("t", "archive", 0)
    assert topics._look()
    assert topics.readable("t") is not None
    assert health.problems() == []


def test_topic_made_again_is_seen_as_another() -> None:
    cluster = Cluster(TOPIC)
    topics = watch(cluster, Health())
    topics.want_to_send("t", "lab", 1024)
    topics._look()
    cluster.known["t"] = Topic("t", "id-2", 1, max_record=10)
    topics._look()
    assert topics.sendable("t") is None
    assert topics.why_not_sendable("t") is not None


def test_limits_are_asked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(TOPIC)
    topics = watch(cluster, Health())
    topics.want_to_send("t", "lab", 1024)
    for _ in range(29):
        topics._look()
    assert cluster.limit_looks <= 2
    for _ in range(31):
        topics._look()
    assert 2 <= cluster.limit_looks <= 4


def test_short_retention_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    topics = watch(Cluster(Topic("t", "id-1", 8, retention=3600.0)), Health())
    topics.want_to_read("t", "archive", 2 * 86400.0)
    with caplog.at_level(logging.WARNING, "kfd"):
        topics._look()
        topics._look()
    assert [message for message in caplog.messages if "3600 s" in message] == caplog.messages
    assert len(caplog.messages) == 1


class Reaching(Health):
    """A health board whose reader adds a route, as a control thread may at any time."""

    topics: TopicWatch

    def report(self, scope: str, key: str, text: str, fix: str = "") -> None:
        self.topics.want_to_send("t", f"new-{scope}", 1024)

    def clear(self, scope: str, key: str) -> None:
        self.topics.want_to_send("t", f"new-{scope}", 1024)


@pytest.mark.parametrize("topics", [(), (TOPIC,)], ids=["missing", "there"])
def test_route_that_is_added_during_a_look_kills_nothing(topics: tuple[Topic, ...]) -> None:
    health = Reaching()
    health.topics = watch(Cluster(*topics), health)
    for route in ("a", "b", "c"):
        health.topics.want_to_send("t", route, 1024)
    health.topics._look()


def test_watch_looks_by_itself() -> None:
    topics = watch(Cluster(TOPIC), Health())
    topics.want_to_send("t", "lab", 1024)
    with running(topics):
        eventually(lambda: topics.sendable("t"))


# Logging


def formatted(formatter: logging.Formatter, level: int, message: str, *args: object) -> str:
    record = logging.LogRecord("kfd.x", level, "x.py", 1, message, args, None)
    return formatter.format(record)


@pytest.mark.parametrize(
    ("level", "priority"),
    [("CRITICAL", 3), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)],
)
def test_journal_lines_carry_their_priority(level: str, priority: int) -> None:
    line = formatted(journal._JournalFormatter(), getattr(logging, level), "a %s", "b")
    assert line == f"<{priority}>a b"


@given(st.text())
def test_no_message_makes_a_line_of_its_own(text: str) -> None:
    for formatter in (journal._JournalFormatter(), journal._PlainFormatter()):
        line = formatted(formatter, logging.INFO, "%s", f"{text}\n<0>forged\x1b[2J\x85\u2028")
        assert line.isprintable()
        assert len(line.splitlines()) == 1


def test_plain_lines_name_what_is_not_information() -> None:
    plain = journal._PlainFormatter()
    assert formatted(plain, logging.WARNING, "x").endswith(" warning: x")
    assert formatted(plain, logging.INFO, "x").endswith(" x")
    assert "info" not in formatted(plain, logging.INFO, "x")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root, kfd = logging.getLogger(), logging.getLogger("kfd")
    before = (root.handlers[:], root.level, kfd.level)
    yield root
    root.handlers[:], root.level, kfd.level = before
    root.setLevel(before[1])
    kfd.setLevel(before[2])


@pytest.mark.parametrize("is_journal", [True, False])
def test_journal_is_known_by_its_stream(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root_logger: logging.Logger,
    is_journal: bool,
) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        inode = status.st_ino if is_journal else status.st_ino + 1
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{inode}")
        monkeypatch.setattr("sys.stderr", stream)
        journal.set_up(verbose=False)
        logging.getLogger("kfd.x").info("hello")
        logging.getLogger("kfd.x").debug("not shown")
        logging.getLogger("other").info("not shown")
    (line,) = (tmp_path / "stderr").read_text().splitlines()
    assert line.startswith("<6>") is is_journal
    assert line.endswith("hello")


def test_stderr_without_a_descriptor_is_no_journal(
    monkeypatch: pytest.MonkeyPatch, root_logger: logging.Logger
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    journal.set_up(verbose=True)
    logging.getLogger("kfd.x").debug("shown")
    assert stream.getvalue().endswith("debug: shown\n")


def test_place_of_an_error_is_told_innermost_first() -> None:
    def inner() -> None:
        raise ValueError("secret")

    try:
        inner()
    except ValueError as error:
        text = journal.where(error)
    first, second = text.split(" < ")
    assert first.startswith("test_daemon_parts.py:")
    assert first.endswith("in inner")
    assert second.endswith("in test_place_of_an_error_is_told_innermost_first")
    assert "secret" not in text


# sd_notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the notification socket."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield end


@pytest.fixture
def notifier(systemd: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier()
    yield notifier
    notifier._systemd.socket.close()


def test_systemd_is_told(systemd: socket.socket, notifier: Notifier) -> None:
    notifier.ready()
    notifier.status("running")
    notifier.status("running")
    notifier.watchdog()
    notifier.status("degraded: full")
    notifier.stopping()
    told = [systemd.recv(4096).decode() for _ in range(5)]
    assert told == [
        "READY=1",
        "STATUS=running",
        "WATCHDOG=1",
        "STATUS=degraded: full",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("path", ["/srv/ä", "/srv/測定", "/srv/\udcff", "/srv/🔬"])
def test_status_of_any_path_arrives_as_utf8(
    systemd: socket.socket, notifier: Notifier, path: str
) -> None:
    notifier.status(f"degraded: {path}")
    notifier.ready()
    assert systemd.recv(4096).decode().startswith("STATUS=degraded: /srv/")
    assert systemd.recv(4096) == b"READY=1"


def test_status_can_say_nothing_but_a_status(systemd: socket.socket, notifier: Notifier) -> None:
    """Problems name paths, and a path may hold a line feed."""
    notifier.status("degraded: /srv/a\nMAINPID=1\nSTOPPING=1")
    told = systemd.recv(4096).decode()
    assert told.startswith("STATUS=degraded: /srv/a")
    assert len(told.splitlines()) == 1


# sdnotify leaves the closing of a socket that it couldn't connect to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()
    gc.collect()


@pytest.mark.parametrize(
    ("value", "seconds"), [("", 5.0), ("1000000", 0.5), ("60000000", 5.0), ("x", 5.0)]
)
def test_watchdog_is_fed_twice_as_often_as_it_must(
    monkeypatch: pytest.MonkeyPatch, value: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", value)
    assert watchdog_interval() == seconds


# Housekeeping


class House:
    """A housekeeper of one upload route, over a real ledger and a real directory."""

    def __init__(self, directory: Path) -> None:
        self.lab = directory / "lab"
        self.lab.mkdir()
        status = self.lab.stat()
        self.watcher = SimpleNamespace(identity=(status.st_dev, status.st_ino))

    def forget(self, ledger: Any) -> None:
        route = SimpleNamespace(directory=self.lab, topic="t")
        uploads = SimpleNamespace(watchers={"lab": self.watcher}, routes={"lab": route})
        context = SimpleNamespace(ledger=ledger, cluster=None, topics=None)
        keeper = Housekeeper(context, uploads, None, 90.0)  # type: ignore[arg-type]
        for route, topic in known.destinations(ledger.reader()):
            keeper._forget_files(route, topic)

    def accept(self, ledger: Any, *names: str) -> None:
        for name in names:
            (self.lab / name).parent.mkdir(exist_ok=True)
            (self.lab / name).write_text(name)
        versions = []
        for name in names:
            one = version_of(self.lab / name)
            versions.append(type(one)(name.encode(), *(getattr(one, f) for f in _OTHERS)))
        offer = Offer("lab", "t", versions, 1024, {})
        ledger.write(lambda db: accepting.accept(db, offer))

    def known_paths(self, ledger: Any) -> list[bytes]:
        return [path for path, _ in known.after(ledger.reader(), "lab", "t", b"", 100)]


_OTHERS = ("source", "device", "inode", "size", "mtime_ns", "mode", "ctime_ns")


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running_ledger(tmp_path / "state") as ledger:
        house.accept(ledger, "a", "b", "d/c")
        (house.lab / "b").unlink()
        house.forget(ledger)
        assert house.known_paths(ledger) == [b"a", b"d/c"]
        (house.lab / "d" / "c").unlink()
        (house.lab / "d").rmdir()
        (house.lab / "d").write_text("a file now")
        house.forget(ledger)
        assert house.known_paths(ledger) == [b"a"]


def test_unmounted_directory_is_not_empty_of_files(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running_ledger(tmp_path / "state") as ledger:
        house.accept(ledger, "a", "b")
        (house.lab).rename(tmp_path / "share")
        house.forget(ledger)
        house.lab.mkdir()  # what was under the mount
        house.forget(ledger)
        assert house.known_paths(ledger) == [b"a", b"b"]


def test_files_that_cannot_be_looked_at_are_not_gone(tmp_path: Path) -> None:
    """A directory that is closed for an hour must not make everything in it be sent again."""
    with (
        running_ledger(tmp_path / "state") as ledger,
        tempfile.TemporaryDirectory() as public,  # everybody may reach it
    ):
        os.chmod(public, 0o755)
        house = House(Path(public))
        house.accept(ledger, "a", "closed/b")
        house.known_paths(ledger)  # connects, which only the owner may
        (house.lab / "closed").chmod(0)
        with unprivileged():
            house.forget(ledger)
        (house.lab / "closed").chmod(0o755)
        assert house.known_paths(ledger) == [b"a", b"closed/b"]


def test_unreachable_file_was_really_looked_at(tmp_path: Path) -> None:
    """The test above looks at a directory that can be looked at: what is gone there is seen."""
    with (
        running_ledger(tmp_path / "state") as ledger,
        tempfile.TemporaryDirectory() as public,
    ):
        os.chmod(public, 0o755)
        house = House(Path(public))
        house.accept(ledger, "a", "b")
        house.known_paths(ledger)
        (house.lab / "b").unlink()
        with unprivileged():
            house.forget(ledger)
        assert house.known_paths(ledger) == [b"a"]
