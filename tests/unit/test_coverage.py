"""Coverage: a partition that nobody has, in a group that calls itself stable, is noticed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kfd.daemon.coverage import Coverage, Reading
from kfd.kafka import BrokerAwayError, Topic


class Member:
    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.joined_anew = 0

    def join_anew(self) -> None:
        self.joined_anew += 1


class Group:
    """What the brokers say of it, look by look."""

    def __init__(self, *looks: frozenset[int] | Exception | None) -> None:
        self._looks = list(looks)

    def assigned(self, group: str, topic: str) -> frozenset[int] | None:
        assert (group, topic) == ("g", "t")
        look = self._looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look


def after(*looks: frozenset[int] | Exception | None, topic: Topic | None = None) -> list[int]:
    """How often each of two members joined anew after these looks."""
    members = [Member(3), Member(0)]
    topics: Any = SimpleNamespace(readable=lambda name: topic or Topic("t", "id", 4))
    reading = Reading("t", "g", members)  # type: ignore[arg-type]
    coverage = Coverage({"in": reading}, Group(*looks), topics)  # type: ignore[arg-type]
    for _ in looks:
        coverage._look("in", reading)
    return [one.joined_anew for one in members]


ALL, SOME = frozenset(range(4)), frozenset({0, 1})


def test_the_member_with_least_to_lose_joins_anew() -> None:
    assert after(SOME, SOME) == [0, 1]


@pytest.mark.parametrize(
    "looks",
    [
        (ALL, ALL),
        (SOME,),  # it may be about to be dealt out
        (SOME, None, SOME),  # a round was under way
        (SOME, ALL, SOME),
        (SOME, frozenset({2, 3}), SOME),
        (SOME, BrokerAwayError("away"), SOME),
    ],
)
def test_what_may_pass_by_itself_is_left_alone(looks: Any) -> None:
    assert after(*looks) == [0, 0]


def test_it_is_left_time_to_work() -> None:
    assert after(SOME, SOME, SOME) == [0, 1]
    assert after(SOME, SOME, SOME, SOME) == [0, 2]


def test_added_partitions_are_noticed() -> None:
    assert after(ALL, ALL, topic=Topic("t", "id", 6)) == [0, 1]
