"""Fixtures for tests on a real Kafka broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.broker import Broker, new_topic
from tests.faults import frame
from tests.support import unavailable


def pytest_addoption(parser: pytest.Parser) -> None:
    """Those of the fault tests; here because a subdirectory's conftest may come too late."""
    frame.add_options(parser)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the broker is marked so; ``-m "not broker"`` leaves it out."""
    for item in items:
        if "bootstrap" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def _own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | None]:
    """The broker that tests may stop: that of ``KFD_BROKER_DIR``, or a new one for this session.

    None where only ``KFD_BOOTSTRAP`` is set: that one belongs to somebody else.
    """
    given = os.environ.get("KFD_BROKER_DIR")
    if os.environ.get("KFD_BOOTSTRAP") and not given:
        yield None
        return
    own = Broker(Path(given) if given else tmp_path_factory.mktemp("broker"))
    own.start()
    yield own
    if not given:
        own.purge()


@pytest.fixture(scope="session")
def bootstrap(_own_broker: Broker | None) -> str:
    """The address of a real broker."""
    return _own_broker.bootstrap if _own_broker else os.environ["KFD_BOOTSTRAP"]


@pytest.fixture
def broker(_own_broker: Broker | None, make_topic: Callable[..., str]) -> Iterator[Broker]:
    """The broker itself, to stop, crash and start; running again after the test.

    It follows ``make_topic`` so that it runs again before the topics are deleted.
    """
    if _own_broker is None:
        unavailable("the broker of KFD_BOOTSTRAP isn't ours to stop (KFD_BROKER_DIR is not set)")
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
