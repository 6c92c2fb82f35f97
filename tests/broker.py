"""The real Kafka broker that tests run on: ``scripts/broker`` and topics on it."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from tests.support import CHECKOUT


class Broker:
    """The broker in a directory of its own, which tests may stop, crash and start again.

    It keeps its port, so ``bootstrap`` stays the same.
    """

    def __init__(self, directory: Path) -> None:
        self._environment = {k: v for k, v in os.environ.items() if k != "KFD_BOOTSTRAP"}
        self._environment["KFD_BROKER_DIR"] = str(directory)
        self.bootstrap = ""

    def start(self) -> None:
        """Start it unless it runs; returns when it answers."""
        name, _, self.bootstrap = self._script("start").strip().partition("=")
        assert name == "KFD_BOOTSTRAP"

    def stop(self) -> None:
        """End it in order; returns when it is gone."""
        self._script("stop")

    def kill(self) -> None:
        """Crash it; returns when it is gone."""
        self._script("stop", "--kill")

    def purge(self) -> None:
        """End it and remove its data."""
        self._script("stop", "--purge")

    def _script(self, *arguments: str) -> str:
        command = ["sh", str(CHECKOUT / "scripts" / "broker"), *arguments]
        done = subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}"
        return done.stdout


@contextmanager
def new_topic(bootstrap: str, partitions: int = 8, **config: str) -> Iterator[str]:
    """A topic of a name never used before; deleted at the end, if it still exists."""
    name = f"kfd-test-{uuid.uuid4().hex[:12]}"
    # What a broker that a test stops makes the client say is no news.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
    admin.create_topics([new])[name].result(30)
    try:
        yield name
    finally:
        admin.delete_topics([name])[name].exception(30)
