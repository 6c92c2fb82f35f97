"""What routes want of topics may change while the daemon runs."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kfd.daemon.health import Health
from kfd.daemon.topics.needs import Needs
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import RECORD_OVERHEAD, Topic


class Cluster:
    """What the brokers would answer."""

    def __init__(self, *topics: Topic) -> None:
        self.known = {topic.name: topic for topic in topics}

    def brokers(self) -> int:
        return 1

    def topics(self, names: Iterable[str]) -> dict[str, Topic | None]:
        return {name: self.known.get(name) for name in names}

    def limits(self, topic: Topic) -> Topic:
        return topic

    def create(self, name: str) -> None:
        self.known[name] = Topic(name, "made", 1)


@pytest.fixture
def health() -> Health:
    return Health()


def watch(health: Health, *topics: Topic) -> TopicWatch:
    return TopicWatch(Cluster(*topics), health, create=False)  # type: ignore[arg-type]


def scopes(health: Health) -> set[str]:
    return {problem.scope for problem in health.problems()}


@pytest.mark.parametrize("sending", [True, False])
def test_route_that_is_gone_is_told_nothing_more(health: Health, sending: bool) -> None:
    topics = watch(health)
    for route in ("gone", "stays"):
        if sending:
            topics.want_to_send("t", route, 1024)
        else:
            topics.want_to_read("t", route, 0)
    assert not topics._look()
    assert scopes(health) == {"gone", "stays"}
    topics.retract("t", "gone", sending=sending)
    assert not topics._look()
    assert scopes(health) == {"stays"}
    topics.retract("t", "stays", sending=sending)
    assert topics._look(), "nobody wants anything"
    assert scopes(health) == set()


def test_route_that_goes_amid_a_look_is_told_nothing_in_the_end(health: Health) -> None:
    topics = watch(health)
    topics.want_to_send("t", "gone", 1024)
    wanted = topics._needs.all()
    topics.retract("t", "gone", sending=True)
    topics._look_at_topics(wanted)
    assert scopes(health) == {"gone"}
    topics._look()
    assert scopes(health) == set()


def test_route_that_sends_and_reads_may_give_up_one(health: Health) -> None:
    topics = watch(health)
    topics.want_to_send("t", "both", 1024)
    topics.want_to_read("t", "both", 60.0)
    topics.retract("t", "both", sending=True)
    wanted = topics._needs.all()["t"]
    assert (wanted.chunk_size, wanted.least_retention) == (0, 60.0)
    assert not topics._look()
    assert scopes(health) == {"both"}


def test_topic_that_nobody_uses_is_forgotten(health: Health) -> None:
    topics = watch(health, Topic("t", "id-1", 8))
    topics.want_to_send("t", "lab", 1024)
    assert topics._look()
    assert topics.sendable("t")
    topics.retract("t", "lab", sending=True)
    topics._look()
    assert topics.sendable("t") is None


def test_receipts_that_nobody_sends_or_reads_any_more(health: Health) -> None:
    topics = watch(health, Topic("t.receipts", "id-1", 1, compacted=True))
    topics.want_receipts("t", "t", sending=False)
    topics.want_receipts("t", "archive", sending=True)
    topics._look()
    assert scopes(health) == {"t", "archive"}
    topics.retract_receipts("t", "t", sending=False)
    topics._look()
    assert scopes(health) == {"archive"}
    topics.retract_receipts("t", "archive", sending=True)
    topics._look()
    assert (scopes(health), topics._needs.all()) == (set(), {})


def test_other_chunks_may_fit(health: Health) -> None:
    topics = watch(health, Topic("t", "id-1", 8, max_record=1024 + RECORD_OVERHEAD))
    topics.want_to_send("t", "lab", 2048)
    assert not topics._look()
    topics.resize(1024)
    assert topics._look()
    assert health.problems() == []
    topics.resize(2048)
    assert not topics._look()


def test_missing_topics_are_made_once_that_is_allowed(health: Health) -> None:
    topics = watch(health)
    topics.want_to_read("t", "archive", 0.0)
    assert not topics._look()
    topics.create = True
    topics._look()
    assert topics._look()
    assert health.problems() == []


def test_largest_need_counts() -> None:
    needs = Needs()
    needs.send("t", "a", 1024)
    needs.send("t", "b", 4096)
    needs.read("t", "c", 10.0)
    needs.read("t", "d", 5.0)
    wanted = needs.all()["t"]
    assert (wanted.chunk_size, wanted.least_retention) == (4096, 10.0)
    needs.send("t", "b", 512)
    assert (needs.all()["t"].chunk_size, wanted.chunk_size) == (1024, 4096), "a copy is a copy"
