"""Brokers that go and come back, topics that aren't there yet: degraded, and recovered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.background import Background
from tests.broker import Broker
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness
from tests.integration.records import Sender, complete, transfers_on
from tests.support import eventually

OUTAGE_SECONDS = 10.0
RECOVERY_SECONDS = 30.0  # by far more than the 5 s that are usual; what it took is printed


def degraded(host: Host) -> dict[str, Any]:
    """Wait until the status says so; the first problem that makes it so."""
    eventually(lambda: host.status()["state"] == "degraded")
    problem: dict[str, Any] = next(one for one in host.status()["problems"] if one["degrades"])
    assert problem["text"]
    assert problem["fix"]
    assert host.ctl("status", "--check").returncode == 1
    return problem


def recovered(host: Host) -> None:
    """Wait until all is well; prints how long it took."""
    started = time.monotonic()
    eventually(lambda: host.status()["state"] == "running", RECOVERY_SECONDS)
    print(f"recovered {time.monotonic() - started:.1f} s after the broker answered")
    assert not [one for one in host.status()["problems"] if one["degrades"]]


class Load(Background):
    """Somebody who goes on writing files, whatever happens to Kafka."""

    def __init__(self, host: Host) -> None:
        super().__init__("load")
        self._host = host

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.05):
            self._host.put(f"{number % 7}/{number}", b"%d" % number * (number % 50) * 997)
            number += 1


@pytest.mark.parametrize("end", [Broker.stop, Broker.kill], ids=["stopped", "killed"])
def test_nothing_is_lost_while_the_broker_is_away(
    make_host: MakeHost, broker: Broker, topic: str, end: Callable[[Broker], None]
) -> None:
    host = make_host(chunk_size="4KiB")
    host.start()
    with Witness(host.down) as witness:
        with Load(host):
            eventually(lambda: len(host.published()) > 20)
            end(broker)
            went = time.monotonic()
            problem = degraded(host)
            while time.monotonic() < went + OUTAGE_SECONDS:  # the outage itself, not a wait
                host.put("during the outage", b"%f" % time.monotonic())
                time.sleep(0.5)
            broker.start()
            recovered(host)
        host.receives_all()
    assert problem["text"].startswith("no broker answers: ")
    assert problem["scope"] == "kafka"
    witness.saw_only(host.versions)
    whole = complete(transfers_on(broker.bootstrap, topic).values())
    assert {one.begin["path"] for one in whole} == set(host.versions)
    assert host.incoming()["quarantined"] == host.outgoing()["failed"] == 0
    published = {one["path"] for one in host.transfers("download")}
    assert published == {path.decode() for path in host.versions}


def test_started_while_the_broker_is_away(make_host: MakeHost, broker: Broker) -> None:
    broker.stop()
    host = make_host()
    host.put("waiting", b"was there before", old=True)
    host.start()
    assert degraded(host)["text"].startswith("no broker answers: ")
    host.put("later", b"came meanwhile")
    broker.start()
    recovered(host)
    host.receives_all()


@pytest.fixture
def missing(bootstrap: str) -> Iterator[str]:
    """The name of a topic that doesn't exist. Asked for before hosts, which would make it again."""
    name = f"kfd-test-{uuid.uuid4().hex[:12]}"
    yield name
    AdminClient({"bootstrap.servers": bootstrap}).delete_topics([name])[name].exception(30)


def test_missing_topic_is_made(missing: str, make_host: MakeHost) -> None:
    host = make_host(topic=missing)
    host.put("first", b"on a new topic", old=True)
    host.start()
    host.receives_all()
    assert host.status()["state"] == "running"


def test_topic_that_others_must_make(missing: str, make_host: MakeHost, bootstrap: str) -> None:
    """create_topics: false. It is named, with the command that makes it, and then noticed."""
    host = make_host(topic=missing, create_topics=False)
    host.put("first", b"waits for its topic", old=True)
    host.start()
    problem = degraded(host)
    assert problem["text"] == f"topic {missing} does not exist"
    assert f"kafka-topics.sh --create --topic {missing}" in problem["fix"]
    assert host.outgoing()["queued"] == 1
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(missing, num_partitions=3)])[missing].result(30)
    recovered(host)
    host.receives_all()


def test_what_waits_for_a_topic_without_a_route_is_sent_after_a_restart(
    missing: str, make_host: MakeHost, bootstrap: str
) -> None:
    host = make_host(create_topics=False)
    host.start()
    elsewhere = host.up.parent / "elsewhere.trc"
    elsewhere.write_bytes(b"waits for its topic")
    done = host.ctl("send", "--topic", missing, "--until", "queued", elsewhere)
    assert done.returncode == 0, done.stderr
    assert host.terminate() == 0
    host.start()
    (row,) = [one for one in host.status()["uploads"] if one["topic"] == missing]
    assert (row["route"], row["queued"]) == ("", 1)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(missing, num_partitions=3)])[missing].result(30)
    assert host.ctl("quit").returncode == 0  # drains
    (sent,) = complete(transfers_on(bootstrap, missing).values())
    assert sent.content == b"waits for its topic"


def test_member_that_is_fenced_off_is_shown_and_comes_back(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    """Another client takes its place in the group: a fatal error for Kafka's client."""
    host = make_host(pools={"consumer_threads": 1})
    host.start()
    host.put("before", b"read")
    host.receives_all()
    group = f"{topic}-readers"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (member,) = admin.describe_consumer_groups([group])[group].result(30).members
    rival = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.instance.id": member.group_instance_id,
            "partition.assignment.strategy": "range",
        }
    )
    rival.subscribe([topic])
    try:
        eventually(lambda: rival.poll(0.2) is not None or "reading" in problems(host), 60)
        eventually(lambda: "reading" in problems(host), 60)
    finally:
        rival.close()
    host.put("after", b"read as well")
    host.receives_all()
    recovered(host)


def problems(host: Host) -> str:
    """The texts of all problems that are shown."""
    return " ".join(problem["text"] for problem in host.status()["problems"])


def test_compacted_topic_is_refused(make_host: MakeHost, make_topic: Callable[..., str]) -> None:
    host = make_host(topic=make_topic(**{"cleanup.policy": "compact"}))
    host.put("kept back", b"would lose its chunks", old=True)
    host.start()
    assert "is compacted: it would lose chunks" in degraded(host)["text"]
    assert host.outgoing()["queued"] == 1


def test_recreated_topic_gets_what_comes_later(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    """Deleted and made again under the same name: another topic, read from its beginning."""
    host = make_host()
    host.start()
    host.put("before", b"on the old topic")
    host.delivers("before")  # else it is sent again
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: host.status()["state"] == "degraded" or "made topic" in host.log())
    eventually(lambda: "made topic" in host.log() and host.status()["state"] == "running")
    host.put("after", b"on the new topic")
    host.receives("after")
    host.counts_published(2)


def test_recreated_topic_is_read_from_its_beginning(
    make_host: MakeHost, bootstrap: str, topic: str, sender: Sender
) -> None:
    """Its first records lie below the offset that was reached on the old topic."""
    receiver = make_host(sends=False, create_topics=False)
    receiver.start()
    for number in range(3):
        sender.file(b"old %d" % number)
    receiver.receives("old 0", "old 1", "old 2")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    admin.create_topics([NewTopic(topic, num_partitions=8)])[topic].result(30)
    again = Sender(bootstrap, topic)
    for number in range(6):
        again.file(b"new %d" % number)
    with Witness(receiver.down) as witness:
        receiver.receives(*(f"new {number}" for number in range(6)), deadline=RECOVERY_SECONDS)
        receiver.kill9()
        receiver.start()
        again.file(b"after a restart")
        receiver.receives("after a restart")
    witness.saw_each_once()
    assert len(receiver.published()) == 3 + 6 + 1
