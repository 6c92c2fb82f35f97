"""What was in Kafka and is sent again: when, how much is read for it, and killed in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kfd.daemon import crashpoint
from kfd.daemon.context import Context
from kfd.daemon.health import Health
from kfd.daemon.ledger import resending
from kfd.daemon.ledger.resending import DROPPED_SECONDS, LONGEST_PAUSE, Gap
from kfd.daemon.pauses import Pauses
from kfd.daemon.rates import Rates
from kfd.daemon.receipts import resender
from kfd.daemon.receipts.resender import Resender
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import BrokerAwayError, Topic
from tests.parts import TOPIC_ID, in_child, running_ledger
from tests.sender import ROUTE, TOPIC, Sender, running_sender

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

YEAR = 365 * 86400.0
ALL = Gap(TOPIC, TOPIC_ID, 0, 1 << 40)


# When


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock that resending goes by, in seconds from now."""

    def set_to(offset: float) -> None:
        clock = SimpleNamespace(time=lambda: time.time() + offset)
        monkeypatch.setattr(resending, "time", clock)

    return set_to


def test_it_waits_for_its_time_and_no_longer(
    sender: Sender, clock: Callable[[float], None]
) -> None:
    sender.hear(sender.send(), "refused")
    assert not resending.is_due(sender.ledger.reader())
    assert sender.ledger.write(lambda db: resending.due(db, 10)) == []
    clock(31)
    assert resending.is_due(sender.ledger.reader())
    assert sender.ledger.write(lambda db: resending.due(db, 10)) == [(ROUTE, TOPIC)]


@pytest.mark.parametrize("step", [-YEAR, -3600.0, -2 * LONGEST_PAUSE, 3600.0, YEAR])
def test_clock_that_is_set_makes_nothing_wait(
    sender: Sender, clock: Callable[[float], None], step: float
) -> None:
    sender.hear(sender.send(), "quarantined")
    clock(step)
    assert resending.is_due(sender.ledger.reader())
    assert sender.ledger.write(lambda db: resending.due(db, 10)) == [(ROUTE, TOPIC)]


def test_clock_set_back_holds_nothing_up_behind_what_is_put_off_since(
    sender: Sender, clock: Callable[[float], None]
) -> None:
    """What is put off by today's clock is due within a pause, and then the others are, too."""
    sender.hear(sender.send(b"before"), "refused")
    sender.ledger.write(lambda db: db.execute("UPDATE outgoing SET resend_at = resend_at + 3e7"))
    sender.hear(sender.send(b"since"), "refused")
    assert not resending.is_due(sender.ledger.reader())
    clock(31)
    assert resending.is_due(sender.ledger.reader())
    assert len(sender.ledger.write(lambda db: resending.due(db, 10))) == 2


# How much is read


def steps(sender: Sender, ask: Callable[[object], object]) -> int:
    """How many steps of its virtual machine SQLite makes for it."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    def counted(db: object) -> None:
        db.set_progress_handler(step, 1)  # type: ignore[attr-defined]
        try:
            ask(db)
        finally:
            db.set_progress_handler(None, 1)  # type: ignore[attr-defined]

    sender.ledger.write(counted)
    return count


def add_history(sender: Sender, *, topic_id: str) -> None:
    """Much that is still there, in other partitions, or delivered."""
    values = [
        (f"{topic_id}{state}{partition}{n}".encode(), state, topic_id, partition, offset + n)
        for state, partition, offset in (
            ("in_kafka", 0, 1000), ("in_kafka", 1, 0), ("delivered", 0, 0), ("cancelled", 0, 0)
        )
        for n in range(250)
    ]  # fmt: skip
    sender.ledger.write(
        lambda db: db.executemany(
            "INSERT INTO outgoing (tid, route, topic, path, source, device, inode, size, mtime_ns,"
            " mode, generation, meta, lane, state, topic_id, partition, first_offset, queued_at)"
            f" VALUES (?, '{ROUTE}', '{TOPIC}', x'00', x'00', 0, 0, 0, 0, 0, 0, '{{}}', 0, ?, ?, ?,"
            " ?, 0)",
            values,
        )
    )


def test_what_was_dropped_is_found_without_reading_the_history(sender: Sender) -> None:
    wanted = [sender.send_at(offset) for offset in (5, 7)]
    gap = Gap(TOPIC, TOPIC_ID, 0, 10)

    def ask(db: object) -> object:
        return resending.dropped(db, gap, -1, 100)  # type: ignore[arg-type]

    before = steps(sender, ask)
    add_history(sender, topic_id=TOPIC_ID)
    assert steps(sender, ask) < before + 50
    numbers = [sender.row(tid, "id") for tid in wanted]
    assert sender.ledger.write(ask) == list(zip(numbers, (5, 7), strict=True))


def test_what_a_deleted_topic_had_is_found_without_reading_the_history(sender: Sender) -> None:
    def ask(db: object) -> object:
        return resending.from_old_topic(db, TOPIC, "m", 100)  # type: ignore[arg-type]

    before = steps(sender, ask)
    add_history(sender, topic_id="m")
    assert steps(sender, ask) < before + 50
    for topic_id in ("a", "z"):
        sender.send_at(3, topic_id=topic_id)
    assert sender.ledger.write(ask) == [(ROUTE, TOPIC)] * 2
    assert sender.ledger.write(ask) == []


def test_dropped_ones_come_in_pages(sender: Sender) -> None:
    for offset in (1, 2, 3, 4):
        sender.send_at(offset)
    sender.send_at(5, partition=1)
    sender.send_at(6, topic="other")
    first = resending.dropped(sender.ledger.reader(), ALL, -1, 3)
    rest = resending.dropped(sender.ledger.reader(), ALL, first[-1][1], 3)
    assert [offset for _, offset in first + rest] == [1, 2, 3, 4]


# The resender


class Cluster:
    """What the brokers would answer about one topic."""

    def __init__(self) -> None:
        self.lows: dict[int, int] = {}
        self.away = False

    def low_watermarks(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        if self.away:
            raise BrokerAwayError("Connection refused")
        return {(topic, number): self.lows.get(number, 0) for topic, number in partitions}


class Again:
    """A resender on a real ledger."""

    def __init__(self, sender: Sender, topic_id: str = TOPIC_ID) -> None:
        self.cluster = Cluster()
        self.requeued: list[tuple[str, str]] = []
        topics = TopicWatch(self.cluster, Health(), create=False)  # type: ignore[arg-type]
        topics.want_to_send(TOPIC, ROUTE, 1000)
        topics._take_over(topics._needs.all(), {TOPIC: Topic(TOPIC, topic_id, 2)})
        context = Context(
            {}, sender.ledger, self.cluster, topics, Health(), Rates(),  # type: ignore[arg-type]
            Pauses(sender.ledger),
        )  # fmt: skip
        self.pages = 100  # before the daemon stops
        self.resender = Resender(
            context, lambda route, topic: self.requeued.append((route, topic)), self.goes_on
        )

    def goes_on(self) -> bool:
        self.pages -= 1
        return self.pages >= 0


def test_what_a_topic_dropped_is_sent_again_unless_a_receipt_was_on_its_way(
    sender: Sender, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resender, "DROPPED_PAGE", 2)
    lost, late, *others = [sender.send_at(offset) for offset in range(5)]
    kept, elsewhere = sender.send_at(5), sender.send_at(3, partition=1)
    again = Again(sender)
    again.cluster.lows = {0: 5}
    again.resender.look_for_dropped({TOPIC})
    again.resender.send_due()
    assert again.requeued == []
    sender.hear(late)
    clock(DROPPED_SECONDS + 1)
    again.resender.send_due()
    assert again.requeued == [(ROUTE, TOPIC)]
    assert {sender.row(tid) for tid in (lost, *others)} == {"cancelled"}
    assert [sender.row(tid) for tid in (late, kept, elsewhere)] == [
        "delivered", "in_kafka", "in_kafka",
    ]  # fmt: skip
    assert sender.counts() == {"cancelled": 4, "queued": 4, "delivered": 1, "in_kafka": 2}


def test_what_is_dropped_later_is_seen_later(sender: Sender) -> None:
    first, second = sender.send_at(0), sender.send_at(1)
    again = Again(sender)
    for low, due in ((1, {first}), (2, {first, second})):
        again.cluster.away = True
        again.resender.look_for_dropped({TOPIC})
        again.cluster.away, again.cluster.lows = False, {0: low}
        again.resender.look_for_dropped({TOPIC})
        assert {tid for tid in (first, second) if sender.row(tid, "resend_at")} == due


def test_old_topic_is_gone_through_once_and_to_its_end(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resender, "PAGE", 2)
    old = [sender.send_at(offset) for offset in range(5)]
    again = Again(sender, "made again")
    for _ in range(2):
        again.resender.compare(TOPIC)
    assert {sender.row(tid) for tid in old} == {"cancelled"}
    assert sender.counts() == {"cancelled": 5, "queued": 5}
    assert resending.topic_sent_to(sender.ledger.reader(), TOPIC) == "made again"


def test_old_topic_is_gone_on_with_after_a_stop(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resender, "PAGE", 2)
    for offset in range(4):
        sender.send_at(offset)
    again = Again(sender, "made again")
    again.pages = 1
    again.resender.compare(TOPIC)
    assert sender.counts() == {"cancelled": 2, "queued": 2, "in_kafka": 2}
    assert resending.topic_sent_to(sender.ledger.reader(), TOPIC) is None
    Again(sender, "made again").resender.compare(TOPIC)
    assert sender.counts() == {"cancelled": 4, "queued": 4}


# Killed


def test_killed_when_refused_ones_are_queued_again(tmp_path: Path) -> None:
    def work(sender: Sender) -> None:
        Again(sender).resender.send_due()

    with running_sender(tmp_path) as sender:
        sender.hear(sender.send(), "quarantined")
        sender.ledger.write(lambda db: db.execute("UPDATE outgoing SET resend_at = 1"))
    killed_at("confirmations.resent", tmp_path, work)
    with running_sender(tmp_path) as sender:
        work(sender)
        assert sender.counts() == {"cancelled": 1, "queued": 1}


def test_killed_amid_an_old_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resender, "PAGE", 2)

    def work(sender: Sender) -> None:
        Again(sender, "made again").resender.compare(TOPIC)

    with running_sender(tmp_path) as sender:
        for offset in range(5):
            sender.send_at(offset)
    killed_at("confirmations.old-topic", tmp_path, work)
    with running_sender(tmp_path) as sender:
        assert sender.counts() == {"cancelled": 2, "queued": 2, "in_kafka": 3}
        assert resending.topic_sent_to(sender.ledger.reader(), TOPIC) is None
        work(sender)
        assert sender.counts() == {"cancelled": 5, "queued": 5}


def killed_at(place: str, directory: Path, work: Callable[[Sender], None]) -> None:
    """Do ``work`` in a process that dies when it comes to ``place``."""

    def run() -> None:
        crashpoint._target = crashpoint._Target(place)
        with running_ledger(directory) as ledger:
            work(Sender(ledger))

    assert in_child(run) == -9, f"{place} was not reached"
