"""The real Kafka broker that tests run on: ``scripts/broker`` and topics on it."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support import CHECKOUT, eventually


class Broker:
    """The broker, or several, in a directory of their own, which tests may stop, crash and start.

    They keep their ports, so ``bootstrap`` stays the same. ``node``: one of several, from 1 on.
    """

    def __init__(
        self,
        directory: Path,
        brokers: int = 1,
        *,
        advertise: int | None = None,
        properties: Path | None = None,
    ) -> None:
        """``advertise``: the port of a proxy to which a single broker sends its clients;
        ``properties``: a file with more of its configuration."""
        self._options = [] if advertise is None else ["--advertise", str(advertise)]
        self._options += [] if properties is None else ["--properties", str(properties)]
        self.nodes = range(1, brokers + 1)
        self._environment = {k: v for k, v in os.environ.items() if k != "KFD_BOOTSTRAP"}
        self._environment["KFD_BROKER_DIR"] = str(directory)
        self.bootstrap = ""

    def start(self, node: int | None = None) -> None:
        """Start those that don't run; returns when they answer."""
        number = ["--brokers", str(len(self.nodes))]
        answer = self._script("start", *number, *self._options, *_node(node))
        name, _, self.bootstrap = answer.strip().partition("=")
        assert name == "KFD_BOOTSTRAP"

    def stop(self, node: int | None = None) -> None:
        """End it in order; returns when it is gone."""
        self._script("stop", *_node(node))

    def kill(self, node: int | None = None) -> None:
        """Crash it; returns when it is gone."""
        self._script("stop", "--kill", *_node(node))

    def purge(self) -> None:
        """End all and remove their data."""
        self._script("stop", "--purge")

    def _script(self, *arguments: str) -> str:
        command = ["sh", str(CHECKOUT / "scripts" / "broker"), *arguments]
        done = subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}"
        return done.stdout


def _node(number: int | None) -> list[str]:
    return [] if number is None else ["--node", str(number)]


@contextmanager
def running_broker(
    directory: Path,
    brokers: int = 1,
    *,
    advertise: int | None = None,
    properties: Path | None = None,
) -> Iterator[Broker]:
    """A broker, or several, in a new directory, ended and removed with the block."""
    made = Broker(directory, brokers, advertise=advertise, properties=properties)
    try:
        made.start()
        yield made
    finally:
        made.purge()


@contextmanager
def new_topic(bootstrap: str, partitions: int = 8, **config: str) -> Iterator[str]:
    """A topic of a name never used before; deleted at the end, if it still exists."""
    name = f"kfd-test-{uuid.uuid4().hex[:12]}"
    # What a broker that a test stops makes the client say is no news.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    new = NewTopic(name, num_partitions=partitions, config=config)  # replicas: the broker's default
    eventually(lambda: _make(admin, new))
    try:
        yield name
    finally:
        answers = admin.delete_topics([name, f"{name}.receipts"])
        for answer in answers.values():
            answer.exception(30)  # receipts there may be, or not


def _make(admin: AdminClient, new: NewTopic) -> bool:
    """Whether it is made: brokers that have just started, or get no time, are fenced a while."""
    error = admin.create_topics([new])[new.topic].exception(30)
    if error is None or error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return True
    if error.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR:
        return False
    raise error
