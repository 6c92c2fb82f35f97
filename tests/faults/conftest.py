"""The hooks of the frame, and the fixtures of fault tests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.broker import Broker, new_topic, running_broker
from tests.faults.frame import Fault, Figures, Record, Selection, catalogue
from tests.integration.conftest import make_host, sender  # noqa: F401 (fixtures)

RECORD = pytest.StashKey[Record]()
STARTED = pytest.StashKey[float]()
FIGURES = pytest.StashKey[Figures]()
PROPERTY = "figures"  # of a report, whichever process it comes from


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORD] = record = Record()
    config.stash[STARTED] = time.time()
    config.pluginmanager.register(Reports(record))


class Reports:
    """Hears of every report, whichever process it is from."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, dict):
                self._record.add(value)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the faults that aren't chosen; other tests are none of its business."""
    if config.option.list_faults:
        named = [(fault, one.name.partition("[")[0]) for one in items if (fault := Fault.of(one))]
        print(catalogue(named))
        return
    selection = Selection.of(config)
    left_out = {one for one in items if (fault := Fault.of(one)) and not selection.rounds(fault)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = sorted((one for one in items if one not in left_out), key=_comes_later)


def _comes_later(item: pytest.Item) -> bool:
    fault = Fault.of(item)
    return fault is None or not fault.minutes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put into the report whether it held, what it measured, and how to repeat it if it failed."""
    report = yield
    fault = Fault.of(item)
    if fault is None or (report.passed and report.when != "call"):
        return report
    selection = Selection.of(item.config)
    # those of the call itself are told once; of what goes wrong after it, only that
    figures = item.stash.get(FIGURES, None) if report.when == "call" else None
    figures = figures or Figures(fault.number, fault.name)
    figures.held = not report.failed
    if report.passed:
        figures.rounds = selection.rounds(fault)
    if report.failed:
        report.sections.append(("to repeat it", f"{selection.again(fault)}    # {item.name}"))
    if report.skipped and isinstance(report.longrepr, tuple):
        figures.skip(report.longrepr[2].removeprefix("Skipped: "))
    report.user_properties.append((PROPERTY, figures.as_json()))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of what was seen."""
    record = config.stash[RECORD]
    if not record:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(record.table())
    if config.option.figures:
        seconds = time.time() - config.stash[STARTED]
        seed = Selection.of(config).seed
        record.save(config.option.figures, {"seed": seed, "seconds": round(seconds)})


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """What this test is marked as."""
    marked = Fault.of(request.node)
    assert marked, "a fault test needs the marker `fault`"
    return marked


@pytest.fixture
def figures(request: pytest.FixtureRequest, fault: Fault) -> Figures:
    """Where the test puts what it measures; one row shows that of all tests of the fault."""
    request.node.stash[FIGURES] = made = Figures(fault.number, fault.name)
    return made


@pytest.fixture
def rounds(request: pytest.FixtureRequest, fault: Fault) -> int:
    """How often to do it in this run; how many minutes, if the marker says so."""
    return Selection.of(request.config).rounds(fault)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of this test's random choices; `--seed` changes that of every test."""
    return Selection.of(request.config).seed_of(request.node.name)


@pytest.fixture
def rng(seed: int) -> random.Random:
    """All of the test's random choices come from here."""
    return random.Random(seed)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this is a run with --full: soaks take hours."""
    return Selection.of(request.config).full


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether this is scripts/faults, and not the short selection of scripts/test."""
    return Selection.of(request.config).whole


@pytest.fixture
def make_cluster_topic(cluster: Broker) -> Iterator[Callable[..., str]]:
    """Make new topics of three replicas: ``make_cluster_topic(partitions=8, **configuration)``."""
    with ExitStack() as topics:

        def make(partitions: int = 8, **config: str) -> str:
            return topics.enter_context(new_topic(cluster.bootstrap, partitions, **config))

        yield make


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Broker]:
    """Three brokers in one quorum, of this test's own, all of them running."""
    with running_broker(tmp_path / "cluster", brokers=3) as three:
        yield three
