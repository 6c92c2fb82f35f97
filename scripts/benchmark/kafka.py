"""The broker that all sides share: ``scripts/broker``, topics, what is in them, who reads them."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from confluent_kafka import (
    ConsumerGroupState,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not all are in its __all__
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from scripts.benchmark.process import BenchmarkError, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
PARTITIONS = 8
PRODUCER = {"linger.ms": "5", "batch.size": "1000000", "compression.type": "none"}
"""Of every side; librdkafka's defaults, written down. Random bytes can't be compressed."""
DURABLE = {"acks": "all", "enable.idempotence": "true"}
"""What kfd sets by itself; the other sides are given it."""


class Broker:
    """The broker of ``KFD_BOOTSTRAP``, or else one of the benchmark's own in ``directory``.

    As a context manager it runs within; an own one is ended and removed afterwards.
    """

    def __init__(self, directory: Path) -> None:
        self.bootstrap = os.environ.get("KFD_BOOTSTRAP", "")
        self.own = not self.bootstrap
        self._environment = os.environ | {"KFD_BROKER_DIR": str(directory)}

    def __enter__(self) -> Broker:
        if self.own:
            self._script("stop", "--purge")  # what a killed run left
        self.start()
        # while the broker is stopped, what the client has to say is no news
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.own:
            self._script("stop", "--purge")

    def start(self) -> None:
        """Start it unless it runs; returns when it answers."""
        self.bootstrap = self._script("start").strip().removeprefix("KFD_BOOTSTRAP=")

    def stop(self) -> None:
        """End it, to be started again; an own one only."""
        self._script("stop")

    @contextmanager
    def topic(self) -> Iterator[str]:
        """A new topic, whose disk space is free again soon after the end."""
        name = f"kfd-bench-{uuid.uuid4().hex[:12]}"
        config = {"file.delete.delay.ms": "1000"}
        new = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config=config)
        self._admin.create_topics([new])[name].result(30)
        try:
            wait_for(f"the leaders of {name}", lambda: self._leads(name))
            yield name
        finally:
            self._admin.delete_topics([name])[name].exception(30)

    def records(self, topic: str) -> int:
        """How many records producers have put into a topic that is read by nobody else."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        request = {TopicPartition(topic, number): latest for number in range(PARTITIONS)}
        answers = self._admin.list_offsets(request, request_timeout=30)
        return sum(answer.result(30).offset for answer in answers.values())

    def wait_for_group(self, group: str, members: int) -> None:
        """Until every partition is assigned, and each of ``members`` consumers has some."""
        wait_for(f"group {group}", lambda: self._assigned(group) == members)

    def _leads(self, topic: str) -> bool:
        """Whether the broker serves a new topic already.

        Leaders come first: a client that asked them for offsets too early believes for minutes
        that there are none.
        """
        answers = self._admin.describe_topics(TopicCollection([topic]), request_timeout=30)
        try:
            partitions = answers[topic].result(30).partitions
            return all(one.leader is not None for one in partitions) and self.records(topic) == 0
        except KafkaException:
            return False

    def _assigned(self, group: str) -> int:
        try:
            found = self._admin.describe_consumer_groups([group])[group].result(30)
        except KafkaException:  # its coordinator is not there yet
            return 0
        shares = [len(member.assignment.topic_partitions) for member in found.members]
        settled = found.state == ConsumerGroupState.STABLE and sum(shares) == PARTITIONS
        return len(shares) if settled and all(shares) else 0

    def _script(self, *arguments: str) -> str:
        command = ["sh", str(CHECKOUT / "scripts" / "broker"), *arguments]
        done = subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise BenchmarkError(f"{' '.join(command)} exited with {done.returncode}")
        return done.stdout
