"""Brokers that go and come under load: one of three at a time, and the only one for minutes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from tests.broker import Broker
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.writer import Writing, load
from tests.integration.conftest import MakeHost
from tests.integration.daemon import Daemon
from tests.support import eventually

MIB = 1 << 20
FLAT = 32  # MiB that memory may grow during an outage
CATCH_UP = 60.0  # seconds after an outage in which all is published


def whole_again(cluster: Broker, topic: str) -> None:
    """Wait until every broker has every partition of the topic."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})

    def replicas_in_sync() -> bool:
        answer = admin.describe_topics(TopicCollection([topic]), request_timeout=10)
        partitions = answer[topic].result(30).partitions
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


@contextmanager
def peak_memory(*daemons: Daemon) -> Iterator[dict[Daemon, int]]:
    """The most memory that each had in the meantime, in bytes."""
    peaks = {one: one.rss() for one in daemons}
    stop = Event()

    def watch() -> None:
        while not stop.wait(0.2):
            for one in daemons:
                peaks[one] = max(peaks[one], one.rss())

    thread = Thread(target=watch, name="memory")
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


@pytest.mark.fault(number=7, name="broker-away", rounds=1, short=0)
def test_outage_with_10000_new_files_takes_no_memory_and_is_made_up_for(
    make_host: MakeHost, broker: Broker, rng: random.Random, figures: Figures, full: bool
) -> None:
    seconds = 600 if full else 120
    sender = make_host("sender", receives=False)
    receiver = make_host("receiver", sends=False)
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        load(sender, rng, "before", 2000, 10)  # as much memory as work takes at all
        judge.all_published(60)
        before = {one: one.rss() for one in (sender, receiver)}
        with peak_memory(sender, receiver) as peaks:
            broker.kill()
            went = time.monotonic()
            for number in range(20):
                load(sender, rng, f"during {number}", 500, 0)
                time.sleep(max(0.0, went + (number + 1) * seconds / 20 - time.monotonic()))
            eventually(lambda: sender.outgoing()["queued"] >= 9000, 30, every=0.5)
            broker.start()
            verdict = judge.holds(CATCH_UP)
    verdict.show(figures)
    figures.sample("seconds away", seconds)
    for name, one in (("sender", sender), ("receiver", receiver)):
        grown = (peaks[one] - before[one]) / MIB
        figures.sample(f"MiB that the {name} grew", grown)
        assert grown <= FLAT
