"""Topics that change while nobody looks: the group must notice that it has to deal out anew."""

from __future__ import annotations

import re

from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.support import eventually

PARTITIONS = 8
CONSUMERS = 5
DEALT = re.compile(r"(consumer-in-\d+): reads partitions \[([\d, ]*)\]")


def readers(host: Host) -> dict[str, list[str]]:
    """The partitions of each consumer of this life, by what it said last."""
    life = host.log().rpartition(" ready as ")[2]
    last = dict(DEALT.findall(life))
    return {name: numbers.split(", ") for name, numbers in last.items() if numbers}


def dealt(host: Host) -> list[str]:
    return sorted(one for numbers in readers(host).values() for one in numbers)


def test_topic_that_was_missing_for_a_while_is_read_again(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    """A group that is formed while there is no topic deals out nothing; its static members, coming
    back under their old names, would be given just that, for ever. (The others are joining when
    the first one publishes, so mostly it is.)"""
    host = make_host(create_topics=False)
    host.start()
    host.put("before", b"on the old topic")
    host.receives("before")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: "does not exist" in host.log())
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    host.put("after", b"on the new topic")
    host.receives("after")
    eventually(lambda: len(dealt(host)) == PARTITIONS)


def test_partitions_added_while_nobody_reads_are_read(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host()
    host.start()
    eventually(lambda: len(readers(host)) == CONSUMERS)  # all are members by now
    host.terminate()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(topic, 2 * PARTITIONS)])[topic].result(30)
    host.start()
    eventually(lambda: len(dealt(host)) == 2 * PARTITIONS)
