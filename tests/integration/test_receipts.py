"""Receipts: what a sender learns of what became of its files."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.integration.conftest import ONE_READER, MakeHost, pair
from tests.integration.daemon import Daemon
from tests.integration.host import Host
from tests.integration.records import complete, read_topic, transfers_on
from tests.support import eventually


def one_of(host: Host, path: str) -> dict[str, Any]:
    """The newest transfer that a host has sent of a path."""
    return next(one for one in host.transfers("upload") if one["path"] == path)


def told(bootstrap: str, topic: str) -> list[tuple[bytes, str]]:
    """Tid and outcome of every receipt about the files on a topic, in the order of Kafka."""
    found = []
    for message in read_topic(bootstrap, f"{topic}.receipts"):
        version, _, _, receipts = msgpack.unpackb(message.value())
        assert version == 1
        found += [(tid, outcome) for tid, outcome, *_ in receipts]
    return found


def test_what_is_published_is_called_delivered(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    sender, receiver = pair(make_host)
    for number in range(300):
        sender.put(f"small/{number}", b"%d" % number, old=True)
    sender.put("large", os.urandom(1 << 20), old=True)
    receiver.start()
    sender.start()
    eventually(lambda: sender.outgoing()["delivered"] == 301, 60, every=0.2)
    assert sender.outgoing()["in_kafka"] == 0
    assert receiver.published() == sender.sources()
    assert sender.status()["problems"] == receiver.status()["problems"] == []
    outcomes = told(bootstrap, topic)
    assert len(outcomes) == len(set(outcomes)) == 301
    records = len(list(read_topic(bootstrap, f"{topic}.receipts")))
    assert records < 100, "small files share records"


def test_send_and_wait_until_delivered(make_host: MakeHost, tmp_path: Path) -> None:
    sender, receiver = pair(make_host)
    sender.start()
    file = tmp_path / "run42.trc"
    file.write_bytes(b"content")
    waited = sender.ctl("send", file, "--until", "delivered", "--timeout", "1s")
    assert waited.returncode == 75, "there is no receiver"
    tid = one_of(sender, "run42.trc")["tid"]
    assert one_of(sender, "run42.trc")["state"] == "in_kafka"
    receiver.start()
    done = sender.ctl("wait", tid[-8:], "--until", "delivered", "--timeout", "60s")
    assert (done.returncode, done.stdout) == (0, f"run42.trc  delivered  id {tid[-8:]}\n")
    file.write_bytes(b"content again")
    done = sender.ctl("send", file, "--until", "delivered", "--timeout", "60s")
    assert done.returncode == 0
    assert "Delivered after" in done.stdout
    listed = json.loads(sender.ctl("list", "--state", "delivered", "--json").stdout)["transfers"]
    assert [one["path"] for one in listed] == ["run42.trc"] * 2


def test_two_receivers(make_host: MakeHost, topic: str) -> None:
    sender, receiver = pair(make_host, receivers=2)
    other = make_host(
        "lab3", sends=False, origin="lab3", pools=ONE_READER, download={"group": f"{topic}-other"}
    )
    receiver.start()
    sender.start()
    sender.put("run.trc", b"content")
    receiver.receives("run.trc")
    (confirmed,) = json.loads(sender.ctl("list", "--json").stdout)["transfers"]
    assert confirmed["state"] != "delivered"
    other.start()
    sender.delivers("run.trc")
    assert receiver.published() == other.published() == sender.sources()


def test_what_a_receiver_cannot_take_is_sent_again_and_fails(make_host: MakeHost) -> None:
    sender, receiver = pair(make_host, {"max_size": "10B"})
    receiver.start()
    sender.start()
    sender.put("too big", b"x" * 100)
    sender.put("fits", b"x")
    sender.delivers("fits")
    eventually(lambda: one_of(sender, "too big")["state"] == "failed", 120, every=0.5)
    failed = one_of(sender, "too big")
    assert failed["reason"] == "quarantined at lab2: too-big (4 times)"
    assert failed["fix"] == "look at kfdctl list on lab2; then kfdctl send --again"
    assert sender.states("upload")["too big", "cancelled"] == 3
    assert sender.outgoing()["failed"] == 1
    assert sender.outgoing()["in_kafka"] == 0


def test_a_receiver_that_was_down_confirms_later(make_host: MakeHost) -> None:
    sender, receiver = pair(make_host)
    for number in range(50):
        sender.put(f"{number}", b"%d" % number, old=True)
    sender.start()
    sender.sent(50)
    assert sender.outgoing()["delivered"] == 0
    assert sender.status()["state"] == "running", "nobody need receive"
    assert sender.terminate() == 0
    receiver.start()
    receiver.receives_all(sender)
    assert receiver.terminate() == 0
    sender.start()
    eventually(lambda: sender.outgoing()["delivered"] == 50, every=0.2)


def test_the_end_of_what_is_published_repeats_the_receipt(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    """As when the sender's last acknowledgement was not in its ledger when it was killed."""
    sender, receiver = pair(make_host)
    receiver.start()
    sender.start()
    sender.put("run.trc", os.urandom(200_000))
    sender.delivers("run.trc")
    ((tid, sent),) = transfers_on(bootstrap, topic).items()
    producer = Producer({"bootstrap.servers": bootstrap})
    for message in read_topic(bootstrap, topic):
        producer.produce(
            topic, message.value(), message.key(), message.partition(), headers=message.headers()
        )
    producer.flush(30)
    assert complete([sent])
    # twice; once more where its record, not yet committed, is read again
    eventually(lambda: len(told(bootstrap, topic)) >= 2)
    assert set(told(bootstrap, topic)) == {(tid, "published")}
    assert receiver.states("download") == {("run.trc", "published"): 1}
    assert sender.states("upload") == {("run.trc", "delivered"): 1}


def test_without_a_topic_for_receipts_files_are_received(
    make_host: MakeHost, topic: str, bootstrap: str
) -> None:
    sender = make_host("sender", receives=False)
    receiver = make_host("lab2", sends=False, pools=ONE_READER, create_topics=False)
    receiver.start()
    sender.start()
    sender.put("run.trc", b"content")
    receiver.receives_all(sender)
    status = receiver.status()
    assert status["state"] == "running"
    (problem,) = status["problems"]
    assert problem["text"] == f"no receipts: topic {topic}.receipts does not exist"
    assert not problem["degrades"]
    assert receiver.ctl("status", "--check").returncode == 0
    assert one_of(sender, "run.trc")["state"] == "in_kafka"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(f"{topic}.receipts", 1)])[f"{topic}.receipts"].result(30)
    sender.delivers("run.trc", deadline=60)
    assert receiver.status()["problems"] == []


def test_forged_receipts_change_nothing(make_host: MakeHost, bootstrap: str, topic: str) -> None:
    sender = make_host("sender", receives=False, origin="scope3")
    other = make_host("lab2", sends=False, pools=ONE_READER)  # makes the topic
    other.start()
    sender.start()
    sender.put("run.trc", b"content")
    sender.delivers("run.trc")
    other.kill9()
    sender.put("second.trc", b"content")
    sender.sent(2)
    ((tid, _),) = (
        item
        for item in transfers_on(bootstrap, topic).items()
        if item[1].begin["path"] == b"second.trc"
    )
    key = instance_of(sender)
    forged: list[Any] = [
        [1, "lab2", bytes(16), [[tid, "published", None, None, ""]]],
        [1, "lab2", bytes(16), [[tid, "superseded", None, 2**63 - 1, ""]]],
        [1, "lab2", bytes(16), [[os.urandom(16), "published", bytes(32), None, ""]]],
        [1, "lab2", bytes(16), [[tid, "published", b"short", None, ""]]],
        [2, "lab2"],
        "?",
    ]
    producer = Producer({"bootstrap.servers": bootstrap})
    for one in forged:
        producer.produce(f"{topic}.receipts", msgpack.packb(one), key)
    producer.produce(f"{topic}.receipts", None, key)
    producer.flush(30)
    expected = {
        "wrong-digest": 1,
        "future-generation": 1,
        "unknown": 1,
        "malformed": 1,
        "unsupported": 1,
        "foreign": 2,
    }
    eventually(lambda: sender.outgoing()["bad"] == expected, every=0.2)
    assert one_of(sender, "second.trc")["state"] == "in_kafka"
    other.start()
    sender.delivers("second.trc")


def instance_of(daemon: Daemon) -> bytes:
    """The key of records for it."""
    connection = sqlite3.connect(daemon.state / "ledger.db")
    try:
        found = connection.execute("SELECT value FROM identity WHERE key = 'instance'").fetchone()
    finally:
        connection.close()
    return bytes(found[0]).hex().encode()


def test_what_was_in_a_topic_made_again_is_sent_again(
    make_host: MakeHost, make_topic: Callable[..., str], bootstrap: str
) -> None:
    """Nobody had read it; the file is still there."""
    topic = make_topic()
    sender = make_host("sender", topic=topic, receives=False)
    sender.put("run.trc", b"content", old=True)
    sender.start()
    sender.sent(1)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)

    def made_again() -> bool:
        return admin.create_topics([NewTopic(topic, 2)])[topic].exception(30) is None

    eventually(made_again, 60)
    eventually(
        lambda: (
            sorted(sender.states("upload")) == [("run.trc", "cancelled"), ("run.trc", "in_kafka")]
        ),
        60,
        every=0.2,
    )
    receiver = make_host("lab2", topic=topic, sends=False, pools=ONE_READER)
    receiver.start()
    receiver.receives_all(sender)
    sender.delivers("run.trc")


SENDER_STEPS = ["confirmations.read", "confirmations.saved"]


RECEIVER_STEPS = ["receipts.acknowledged"]


@pytest.mark.parametrize("step", SENDER_STEPS)
def test_sender_killed_between_two_steps(make_host: MakeHost, step: str) -> None:
    sender, receiver = pair(make_host)
    receiver.start()
    sender.environment = {"KFD_CRASH_AT": step}
    for number in range(20):
        sender.put(f"{number}", b"%d" % number, old=True)
    sender.start()
    assert sender.wait() == -9
    sender.environment = {}
    sender.start()
    eventually(lambda: sender.outgoing()["delivered"] == 20, every=0.2)
    assert set(sender.states("upload").values()) == {1}
    assert receiver.published() == sender.sources()


@pytest.mark.parametrize("step", RECEIVER_STEPS)
def test_receiver_killed_between_two_steps(
    make_host: MakeHost, bootstrap: str, topic: str, step: str
) -> None:
    sender, receiver = pair(make_host)
    sender.start()
    receiver.environment = {"KFD_CRASH_AT": step}
    receiver.start()
    sender.put("run.trc", b"content")
    assert receiver.wait() == -9
    receiver.environment = {}
    receiver.start()
    sender.delivers("run.trc")
    tid = bytes.fromhex(one_of(sender, "run.trc")["tid"])
    # twice; once more where its record, not yet committed, is read again
    eventually(lambda: len(told(bootstrap, topic)) >= 2)
    assert set(told(bootstrap, topic)) == {(tid, "published")}
    assert receiver.states("download") == {("run.trc", "published"): 1}
