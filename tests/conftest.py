"""Fixtures for tests on a real Kafka broker, in one process or several (pytest-xdist)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.broker import Broker, new_topic, running_broker
from tests.faults import frame
from tests.postgres import PostgreSQL, running_postgresql

# How long an example takes says nothing on a machine that does other things too.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell has its background jobs ignore SIGINT, and programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Those of the fault tests; here because a subdirectory's conftest may come too late."""
    frame.add_options(parser)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the broker is marked so; ``-m "not broker"`` leaves it out."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "bootstrap" in fixtures:
            item.add_marker(pytest.mark.broker)
        if "broker" in fixtures:
            item.add_marker(pytest.mark.xdist_group("own broker"))  # --dist loadgroup: only one


@pytest.fixture(scope="session")
def _common_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The broker that all tests use and none may stop: of ``KFD_BOOTSTRAP``, or a new one."""
    if given := os.environ.get("KFD_BOOTSTRAP"):
        yield given
        return
    with running_broker(tmp_path_factory.mktemp("broker")) as common:
        yield common.bootstrap


@pytest.fixture(scope="session")
def _own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The one that tests may stop, of this process of tests; below ``KFD_BROKER_DIR`` if that is
    set, so that scripts find what a killed run left."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    below = os.environ.get("KFD_BROKER_DIR") or tmp_path_factory.mktemp("own")
    with running_broker(Path(below) / f"own-{worker}") as own:
        yield own


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of a real broker: of the process's own if the test uses ``broker``."""
    if "broker" in request.fixturenames:
        own: Broker = request.getfixturevalue("_own_broker")
        return own.bootstrap
    return str(request.getfixturevalue("_common_bootstrap"))


@pytest.fixture
def broker(_own_broker: Broker, make_topic: Callable[..., str]) -> Iterator[Broker]:
    """The broker itself, to stop, crash and start; running again after the test.

    It follows ``make_topic`` so that it runs again before the topics are deleted.
    """
    yield _own_broker
    _own_broker.start()


@pytest.fixture
def make_topic(bootstrap: str) -> Iterator[Callable[..., str]]:
    """Make new topics: ``make_topic(partitions=8, **topic_configuration)`` gives a name."""
    with ExitStack() as topics:

        def make(partitions: int = 8, **config: str) -> str:
            return topics.enter_context(new_topic(bootstrap, partitions, **config))

        yield make


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    """A new topic of 8 partitions."""
    return make_topic()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """A real PostgreSQL server of this process of tests; each test makes a database of its own.
    Who stops it starts it again."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def database(postgres: PostgreSQL, request: pytest.FixtureRequest) -> str:
    """A new database of that server."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    postgres.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    postgres.execute("postgres", f"CREATE DATABASE {name}")
    return name
