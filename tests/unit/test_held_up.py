"""What a drain waits for in vain."""

from __future__ import annotations

from kfd.control import Held, Problem
from kfd.daemon.answers.service import held_up
from kfd.daemon.ledger.queries import Tally


def waiting(route: str, topic: str, count: int, state: str = "queued") -> Tally:
    return Tally("upload", route, topic, state, count, 10 * count, b"", None)


def problem(scope: str, *, degrades: bool = True) -> Problem:
    return Problem(scope, f"{scope} is wrong", "mend it", 0.0, degrades)


def test_only_what_is_in_trouble() -> None:
    tallies = [waiting("a", "t", 2), waiting("a", "t", 1, "sending"), waiting("b", "t", 5)]
    assert held_up(tallies, [problem("a"), problem("b", degrades=False)]) == [
        Held("a", "t", 3, "a is wrong", "mend it")
    ]


def test_what_was_sent_without_a_route_goes_by_its_topic() -> None:
    assert held_up([waiting("", "t", 1)], [problem("t")])[0].topic == "t"


def test_brokers_that_are_away_hold_up_all() -> None:
    tallies = [waiting("a", "t", 1), waiting("b", "u", 1)]
    assert {one.route for one in held_up(tallies, [problem("kafka")])} == {"a", "b"}
