"""Brokers that go and come under load: one of three at a time, and the only one for minutes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from tests.background import Background
from tests.broker import Broker
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.writer import Writing, load
from tests.integration.conftest import MakeHost
from tests.integration.daemon import Daemon
from tests.integration.host import Host
from tests.support import eventually

MIB = 1 << 20
LOOK_SECONDS = 0.2
FLAT = 32  # MiB that memory may grow during an outage
QUEUE = 64  # MiB that were read and wait for the broker, at most: queue.size
CATCH_UP = 60.0  # seconds after an outage in which all is published
FILES, PORTIONS = 10_000, 10  # that arrive during an outage; of each half


def whole_again(cluster: Broker, topic: str) -> None:
    """Wait until every broker has every partition of the topic."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})

    def replicas_in_sync() -> bool:
        answer = admin.describe_topics(TopicCollection([topic]), request_timeout=10)
        try:
            partitions = answer[topic].result(30).partitions
        except (KafkaException, TimeoutError):  # whom it asked was just going, or coming
            return False
        return all(len(one.isr) == len(cluster.nodes) for one in partitions)

    eventually(replicas_in_sync, 60, every=0.2)


@pytest.mark.fault(number=6, name="rolling-restart", rounds=10, short=1)
def test_brokers_restarted_one_by_one_lose_nothing(
    make_host: MakeHost,
    cluster: Broker,
    make_cluster_topic: Callable[..., str],
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    topic = make_cluster_topic()
    at = {"bootstrap": cluster.bootstrap, "topic": topic, "chunk_size": "64KiB"}
    sender = make_host("sender", receives=False, **at)
    receiver = make_host("receiver", sends=False, **at)
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        with Writing(sender, rng, names=500):
            for round_ in range(rounds):
                node = cluster.nodes[round_ % len(cluster.nodes)]
                end = cluster.stop if round_ % 2 else cluster.kill
                end(node)
                time.sleep(rng.uniform(0.0, 2.0))  # how long it is away
                cluster.start(node)
                whole_again(cluster, topic)
                figures.add("restarts")
        verdict = judge.holds(60)
    verdict.show(figures)
    assert sender.running
    assert receiver.running
    eventually(lambda: sender.status()["problems"] == receiver.status()["problems"] == [], 30)


class Memory(Background):
    """Looks at a daemon's memory: by how many MiB it ever grew since then."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__("memory")
        self._daemon = daemon
        self._before = self._most = daemon.rss()

    def grown(self) -> float:
        return (self._most - self._before) / MIB

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._most = max(self._most, self._daemon.rss())


@pytest.mark.fault(number=7, name="broker-away", rounds=10, short=0, minutes=True)
def test_outage_with_10000_new_files_takes_no_memory_and_is_made_up_for(
    make_host: MakeHost, broker: Broker, rounds: int, rng: random.Random, figures: Figures
) -> None:
    sender = make_host("sender", receives=False)
    receiver = make_host("receiver", sends=False)
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        load(sender, rng, "before", 2000, 10)  # as much memory as work takes at all
        judge.all_published(60)
        with Memory(sender) as ever, Memory(receiver) as receives:
            broker.kill()
            files_arrive_for(30.0 * rounds, sender, rng, "first")
            with Memory(sender) as sends:  # by now the queue holds what it may
                files_arrive_for(30.0 * rounds, sender, rng, "then")
                eventually(lambda: waiting(sender) == FILES, 60, every=0.5)
                broker.start()
                verdict = judge.holds(CATCH_UP)
    verdict.show(figures)
    figures.add("minutes away", rounds)
    figures.sample("MiB that the sender grew, with its queue", ever.grown())
    figures.sample("MiB that it grew with a full queue", sends.grown())
    figures.sample("MiB that the receiver grew", receives.grown())
    assert verdict.seconds <= CATCH_UP
    assert sends.grown() <= FLAT
    assert receives.grown() <= FLAT
    assert ever.grown() <= FLAT + QUEUE


def files_arrive_for(seconds: float, sender: Host, rng: random.Random, prefix: str) -> None:
    """Half of them, in portions, evenly over the time."""
    began = time.monotonic()
    for number in range(PORTIONS):
        load(sender, rng, f"{prefix} {number}", FILES // 2 // PORTIONS, 0)
        due = began + (number + 1) * seconds / PORTIONS
        time.sleep(max(0.0, due - time.monotonic()))  # the outage itself


def waiting(sender: Host) -> int:
    """How many files it has accepted, and not in Kafka."""
    route = sender.outgoing()
    return int(route["queued"] + route["sending"])
