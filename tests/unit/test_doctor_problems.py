"""What status shows, beside what doctor's checks have said: each fault once."""

from __future__ import annotations

import pytest

from kfd.control.examination import Check, Outcome
from kfd.daemon.doctor.problems import look_at_problems
from kfd.daemon.health import Health
from kfd.examination.checks import doubtful, skipped, well, wrong


def told(health: Health, *made: Check) -> list[tuple[str, Outcome]]:
    return [(one.name, one.outcome) for one in look_at_problems(health, made)]


@pytest.mark.parametrize(
    ("scope", "key", "check"),
    [
        ("miss", "directory", "uploads.miss"),
        ("miss", "then", "uploads.miss.then"),
        ("in", "disk", "downloads.in"),
        ("in", "space consumer-in-0", "downloads.in.space"),
        ("in", "topic t", "topic t"),
        ("in", "consumer-in-0", "login"),
        ("kafka", "away", "login"),
        ("kafka", "away", "broker b:9092"),
        ("configuration", "refused", "configuration"),
    ],
)
def test_what_a_check_has_said_is_not_said_again(scope: str, key: str, check: str) -> None:
    health = Health()
    health.report(scope, key, "it is so", "mend it")
    assert told(health, wrong(check, "it is so", "mend it")) == []
    assert told(health, well(check, "all is well")) == [(scope, Outcome.FAIL)]
    assert told(health, doubtful(check, "perhaps", "mend it")) == [(scope, Outcome.FAIL)]
    assert told(health, wrong("another", "bad", "mend it")) == [(scope, Outcome.FAIL)]


@pytest.mark.parametrize(
    ("key", "made"),
    [
        ("consumer-in-0", [wrong("broker b2:9092", "away", "start it"), well("login", "ok")]),
        ("space consumer-in-0", [wrong("downloads.in", "not given to a group", "drop in")]),
    ],
)
def test_what_only_something_beside_it_is_told_of_is_said(key: str, made: list[Check]) -> None:
    health = Health()
    health.report("in", key, "it is so", "mend it")
    assert told(health, *made) == [("in", Outcome.FAIL)]


def test_what_reads_where_no_broker_is_reached_is_not_said() -> None:
    health = Health()
    health.report("in", "consumer-in-0", "reading t: all brokers are down", "mend it")
    made = wrong("broker b:9092", "no connection", "start it"), skipped("login", "none reached")
    assert told(health, *made) == []


def test_a_restart_that_is_needed_is_said_once() -> None:
    health = Health()
    health.note("configuration", "restart", "changed, and needs a restart: pools", "restart it")
    assert told(health, doubtful("configuration", "needs a restart: pools", "restart it")) == []


def test_all_consumers_of_a_route_have_one_fault() -> None:
    health = Health()
    for number in range(3):
        health.report("in", f"consumer-in-{number}", "reading t: refused", "mend it")
    health.report("in", "group", "another", "mend it")
    assert told(health) == [("in", Outcome.FAIL)] * 2


def test_nothing_is_wrong() -> None:
    assert told(Health()) == [("now", Outcome.OK)]
