"""Killed at every place of the program at which a kill would matter."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.crashpoints import crash_points
from tests.faults.frame import Figures
from tests.faults.scenarios import scenario_of, visits
from tests.faults.scenes import Scenes
from tests.faults.writer import load
from tests.support import eventually

REACHED = 40.0  # seconds in which the place must be come to
ALL_THERE = 60.0


def points() -> list[Any]:
    """Every point; the short selection has the first of each kind."""
    found = []
    kinds: set[str] = set()
    for point in crash_points():
        kind = point.partition(".")[0]
        short = 0 if kind in kinds else 1
        kinds.add(kind)
        mark = pytest.mark.fault(number=4, name="crash-points", rounds=1, short=short)
        found += [pytest.param(place, marks=mark, id=place) for place in visits(point)]
    return found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The hosts that are killed."""
    made = Scenes(tmp_path_factory.mktemp("scenes"))
    yield made
    made.close()


@pytest.mark.parametrize("point", points())
def test_killed_at_a_crash_point_loses_and_repeats_nothing(
    scenes: Scenes, bootstrap: str, point: str, rng: random.Random, figures: Figures
) -> None:
    scenario = scenario_of(point)
    with scenes.sending(bootstrap, scenario.upload) as scene:
        scene.rng = rng
        scene.allow(scenario.bad)
        scene.start()
        scenario.prepare(scene)
        scene.judge.all_published(ALL_THERE)
        scene.kill()
        scenario.meanwhile(scene)
        with scene.armed(point):
            if scene.up():
                with scenario.traced(scene):
                    scenario.happens(scene)
                    eventually(lambda: not scene.alive(), REACHED)
        started = time.monotonic()
        scene.start()
        load(scene.sender, rng, "after", 10, 0)
        scene.holds(ALL_THERE)
    figures.add("points")
    figures.sample("seconds until all was there", time.monotonic() - started)
