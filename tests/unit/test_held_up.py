"""Why files don't move: told to who drains, waits, or looks at one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kfd.control import Direction, Held, State
from kfd.daemon.answers.holdups import HoldUps
from kfd.daemon.answers.service import held_up
from kfd.daemon.health import SENDING, Health
from kfd.daemon.ledger.queries import Tally
from kfd.daemon.topics.reports import key_of, receipts_key_of
from tests.control import NOON, TID, transfer


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def holdups(health: Health) -> HoldUps:
    """Where route ``resting`` and what is sent without a route are paused."""
    pauses = SimpleNamespace(since={"resting": NOON, "": NOON}.get)
    return HoldUps(SimpleNamespace(health=health, pauses=pauses))  # type: ignore[arg-type]


def waiting(route: str, topic: str, count: int, state: str = "queued") -> Tally:
    return Tally("upload", route, topic, state, count, 10 * count, b"", None)


def test_only_what_is_in_trouble(health: Health, holdups: HoldUps) -> None:
    health.report("a", key_of("t"), "t does not exist", "make it")
    health.note("b", receipts_key_of("t.receipts"), "no receipts", "")
    tallies = [waiting("a", "t", 2), waiting("a", "t", 1, "sending"), waiting("b", "t", 5)]
    assert held_up(tallies, holdups) == [Held("a", "t", 3, "t does not exist", "make it")]


def test_what_was_sent_without_a_route_goes_by_its_topic(health: Health) -> None:
    pauses = SimpleNamespace(since=lambda _: None)
    holdups = HoldUps(SimpleNamespace(health=health, pauses=pauses))  # type: ignore[arg-type]
    health.report("t", SENDING, "Kafka does not take it now", "")
    assert held_up([waiting("", "t", 1)], holdups)[0].topic == "t"


def test_brokers_that_are_away_hold_up_all(health: Health, holdups: HoldUps) -> None:
    health.report("kafka", "away", "no broker answers", "")
    tallies = [waiting("a", "t", 1), waiting("b", "u", 1)]
    assert {one.route for one in held_up(tallies, holdups)} == {"a", "b"}


def test_a_directory_that_is_missing_holds_up_nothing(health: Health, holdups: HoldUps) -> None:
    """What is queued is read by its own path, and fails if it isn't there."""
    health.report("a", "directory", "/srv/a is missing", "mount it")
    assert held_up([waiting("a", "t", 1)], holdups) == []


def test_a_pause_is_told_with_how_to_end_it(holdups: HoldUps) -> None:
    told = holdups.told(transfer(TID, route="resting"))
    assert (told.reason, told.fix) == ("resting is paused", "kfdctl resume resting")
    told = holdups.told(transfer(TID, route=""))
    assert (told.reason, told.fix) == ("what is sent without a route is paused", "kfdctl resume")


def test_what_has_ended_is_left_as_it_is(health: Health, holdups: HoldUps) -> None:
    health.report("kafka", "away", "no broker answers", "")
    ended = transfer(TID, state=State.FAILED, reason="digest-mismatch")
    assert holdups.told(ended) == ended


def test_what_is_in_kafka_waits_for_receipts(health: Health, holdups: HoldUps) -> None:
    health.report("a", key_of("t"), "t does not exist", "make it")
    health.note("a", receipts_key_of("t.receipts"), "no receipts: no such topic", "make it")
    sent = transfer(TID, route="a", topic="t", state=State.IN_KAFKA)
    assert holdups.told(sent).reason == "no receipts: no such topic"


def test_what_is_received_waits_for_its_route(health: Health, holdups: HoldUps) -> None:
    health.note("lab", "receipts", "receipts about t can't be sent", "")
    got = transfer(TID, route="lab", direction=Direction.DOWNLOAD, state=State.RECEIVING)
    assert holdups.told(got) == got
    health.report("lab", "disk", "cannot write", "free space")
    assert holdups.told(got).reason == "cannot write"
