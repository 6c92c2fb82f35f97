"""Fixtures for the daemon as a real process on a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.host import Host
from tests.integration.records import Sender

MakeHost = Callable[..., Host]

ONE_READER = {"consumer_threads": 1}  # in a new group it reads at once; several take 2 s to agree


@pytest.fixture
def make_host(tmp_path: Path, bootstrap: str, topic: str) -> Iterator[MakeHost]:
    """Make daemons, not started yet: ``make_host(NAME, **settings)``. Their logs are shown when
    the test fails."""
    with ExitStack() as hosts:

        def show(one: Host) -> None:
            if one.log_file.exists():
                print(f"--- {one.log_file}\n{one.log()}")

        def make(
            name: str = "host", topic: str = topic, bootstrap: str = bootstrap, **settings: Any
        ) -> Host:
            made = Host(tmp_path / name, bootstrap, topic, **settings)
            hosts.callback(show, made)
            return hosts.enter_context(made)

        yield make


def pair(
    make_host: MakeHost, download: dict[str, Any] | None = None, **upload: Any
) -> tuple[Host, Host]:
    """A host that sends in small chunks and one that receives, not started."""
    sender = make_host("sender", receives=False, origin="scope3", upload=upload, chunk_size="64KiB")
    receiver = make_host("lab2", sends=False, origin="lab2", pools=ONE_READER, download=download)
    return sender, receiver


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """One daemon that sends and receives, running."""
    made = make_host(pools=ONE_READER)
    made.start()
    return made


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """One daemon that only receives, running."""
    made = make_host("receiver", sends=False, pools=ONE_READER)
    made.start()
    return made


@pytest.fixture
def sender(bootstrap: str, topic: str) -> Sender:
    """A plain producer to the topic."""
    return Sender(bootstrap, topic)
