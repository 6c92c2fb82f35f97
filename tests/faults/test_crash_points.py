"""Killed at every place of the program at which a kill would matter."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from kfd.daemon.crashpoint import VARIABLE
from tests.faults.crashpoints import crash_points
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.scenarios import MOVE, Scenario, Scene, name_at_source, scenario_of, visits
from tests.faults.writer import load
from tests.integration.conftest import ONE_READER, MakeHost
from tests.support import eventually

REACHED = 40.0  # seconds in which the place must be come to
ALL_THERE = 60.0
SETTINGS = {"chunk_size": "64KiB", "pools": ONE_READER}


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


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than the test's."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    directory = Path(mkdtemp(dir=memory, prefix="kfd-test-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def upload(scenario: Scenario, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The sender's route."""
    if scenario.upload != MOVE:
        return scenario.upload
    return {"then": {"move": str(request.getfixturevalue("elsewhere"))}}


@pytest.fixture
def scenario(point: str) -> Scenario:
    """How the point is come to."""
    return scenario_of(point)


@contextmanager
def armed(scene: Scene, point: str) -> Iterator[None]:
    """Both run, and die when they come to ``point``; on leaving one has, and both are down."""
    for host in scene.hosts():
        host.environment[VARIABLE] = point
        host.spawn()
    try:
        yield
        died = [host.process.wait() for host in scene.hosts() if host.process and not host.running]
        assert died == [-signal.SIGKILL] * len(died), "it ended by itself"
    finally:
        for host in scene.hosts():
            host.environment.clear()
            host.kill9()


@pytest.mark.parametrize("point", points())
def test_killed_at_a_crash_point_loses_and_repeats_nothing(
    make_host: MakeHost, bootstrap: str, topic: str, point: str, scenario: Scenario,
    upload: dict[str, Any], rng: random.Random, figures: Figures,
) -> None:  # fmt: skip
    sender = make_host("sender", receives=False, upload=upload, **SETTINGS)
    receiver = make_host("receiver", sends=False, **SETTINGS)
    scene = Scene(sender, receiver, bootstrap, topic, rng)
    with Judge(
        [sender], [receiver], source_of=name_at_source, wanted=lambda: dict(sender.newest)
    ) as judge:
        start(scene)
        scenario.prepare(scene)
        judge.all_published(ALL_THERE)
        kill(scene)
        scenario.meanwhile(scene)
        with armed(scene, point):
            if scene.up():
                with scenario.traced(scene):
                    scenario.happens(scene)
                    eventually(lambda: not scene.alive(), REACHED)
        started = time.monotonic()
        start(scene)
        load(sender, rng, "after", 10, 0)
        verdict = judge.holds(ALL_THERE, bad=scenario.bad)
        figures.sample("seconds until all was there", time.monotonic() - started)
    figures.add("points")
    figures.add("files", verdict.files)


def start(scene: Scene) -> None:
    """Both hosts."""
    for host in scene.hosts():
        host.start()


def kill(scene: Scene) -> None:
    """Both hosts."""
    for host in scene.hosts():
        host.kill9()
