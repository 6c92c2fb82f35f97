"""The watch over topics: missing, refused, too small, made again."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon.health import Health
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import RECORD_OVERHEAD, BrokerAwayError, Topic, TopicRefusedError
from tests.parts import running
from tests.support import eventually


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
