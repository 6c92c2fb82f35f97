"""A topic that grows, is made again, drops what nobody has read, or is read from elsewhere: as
designed, counted, and sent again where the sender still has the file."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.faults.evidence import arriving, conflicts
from tests.faults.frame import Figures
from tests.faults.group import Group
from tests.faults.judge import Judge
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.records import transfers_on
from tests.support import eventually

CHUNK = 64 << 10
SLOW = {"chunk_size": "64KiB", "queue": {"size": "1MiB"}, "upload": {"rate_limit": "8MiB"}}
LARGE = 4 << 20  # under way for half a second
REPEATED = {"duplicate": (0, 10_000), "orphan": (0, 10_000)}
"""What reading again may meet: records of what has ended, whether its tid is known or not."""


@pytest.fixture
def pair(make_host: MakeHost) -> tuple[Host, Host]:
    """A sender and a receiver, running."""
    sender = make_host("sender", receives=False, **SLOW)
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    sender.start()
    receiver.start()
    return sender, receiver


@pytest.fixture
def group(bootstrap: str, topic: str) -> Group:
    """That of the receiver."""
    return Group(bootstrap, f"{topic}-readers", topic)


def put_versions(sender: Host, rng: random.Random, names: int = 20) -> None:
    """Next versions of the same files, of one record and of several."""
    for number in range(names):
        sender.put(f"{number % 3}/{number}.trc", rng.randbytes(rng.randrange(3 * CHUNK)))


def all_in_kafka(sender: Host) -> None:
    """Wait until nothing is under way any more."""
    eventually(lambda: not {"queued", "sending"} & {state for _, state in sender.states("upload")})


@pytest.mark.fault(number=14, name="partitions-added", rounds=2, short=0)
def test_partitions_that_are_added(
    make_host: MakeHost,
    make_topic: Callable[..., str],
    bootstrap: str,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    """In the middle of a file. What has a place stays there, so that its versions keep their
    order; the new partitions are used, and read from their beginning."""
    topic = make_topic(partitions=2)
    sender = make_host("sender", topic=topic, receives=False, **SLOW)
    receiver = make_host(
        "receiver", topic=topic, sends=False, pools=ONE_READER, download={"start": "latest"}
    )
    receiver.start()
    sender.start()
    with Judge([sender], [receiver]) as judge:
        for number in range(rounds):
            put_versions(sender, rng)
            sender.put("large", rng.randbytes(LARGE))
            eventually(lambda: arriving(receiver))
            partitions = 2 * (number + 2)
            admin = AdminClient({"bootstrap.servers": bootstrap})
            admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
            put_versions(sender, rng)
            goes_into(partitions, sender, rng, bootstrap, topic)
            put_versions(sender, rng)
            seconds = judge.all_published(60)
            figures.sample("seconds until the new partitions were read, too", seconds)
        judge.holds()
    places = defaultdict(set)
    for one in transfers_on(bootstrap, topic).values():
        places[one.begin["path"]] |= one.partitions
    assert {path for path, found in places.items() if len(found) > 1} == set()
    assert conflicts(receiver) == []


def goes_into(
    partitions: int, sender: Host, rng: random.Random, bootstrap: str, topic: str
) -> None:
    """Put new files until there are some in so many partitions."""

    def used() -> bool:
        for _ in range(8):  # enough for several places: small ones stay together for a while
            sender.put(f"new/{rng.randrange(1 << 40)}", rng.randbytes(4 * CHUNK))
        found = transfers_on(bootstrap, topic).values()
        return len({number for one in found for number in one.partitions}) == partitions

    eventually(used, 60, every=0.5)


@pytest.mark.fault(number=14, name="topic-made-again", rounds=3, short=1)
def test_topic_that_is_deleted_and_made_again(
    pair: tuple[Host, Host],
    bootstrap: str,
    topic: str,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    """With files in it that nobody had read, and in the middle of one: all of it is sent again."""
    sender, receiver = pair
    admin = AdminClient({"bootstrap.servers": bootstrap})
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            put_versions(sender, rng)
            judge.all_published(60)
            assert receiver.terminate() == 0
            put_versions(sender, rng)
            all_in_kafka(sender)
            sender.put("large", rng.randbytes(2 * LARGE))
            eventually(lambda: ("large", "sending") in sender.states("upload"))
            admin.delete_topics([topic])[topic].result(30)
            admin.create_topics([NewTopic(topic, num_partitions=8)])[topic].result(30)
            receiver.start()
            put_versions(sender, rng, 5)
            seconds = judge.all_published(90)
            figures.sample("seconds until all was there", seconds)
        judge.holds(bad={"orphan": (0, 1000), "gap": (0, 1000)})
    assert conflicts(receiver) == []


@pytest.mark.fault(number=14, name="offsets-reset", rounds=2, short=0)
@pytest.mark.parametrize(
    "where", ["to the start", "anywhere back", "beyond the end", "into a file"]
)
def test_offsets_that_are_reset(
    pair: tuple[Host, Host],
    group: Group,
    rounds: int,
    rng: random.Random,
    figures: Figures,
    where: str,
) -> None:
    """By an administrator, while the receiver is down in the middle of a file: nothing is
    published again, and nothing is lost."""
    sender, receiver = pair
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            put_versions(sender, rng)
            judge.all_published(60)
            sender.put("large", rng.randbytes(LARGE))
            eventually(lambda: arriving(receiver))
            receiver.kill9()
            group.put(reset(group, where, rng))
            put_versions(sender, rng, 5)
            receiver.start()
            figures.sample("seconds until all was there", judge.all_published(120))
        judge.holds(bad={**REPEATED, "offsets-lost": (0, 10_000), "gap": (0, 10_000)})
    assert conflicts(receiver) == []


def reset(group: Group, where: str, rng: random.Random) -> dict[int, int]:
    starts, committed = group.starts(), group.committed()
    if where == "to the start":
        return starts
    if where == "anywhere back":
        return {number: rng.randint(starts[number], at) for number, at in committed.items()}
    if where == "beyond the end":
        return {number: end + rng.randrange(1, 1 << 40) for number, end in group.ends().items()}
    ends = group.ends()  # what is committed before the end is the first record of an open file
    return {number: at + 1 for number, at in committed.items() if at < ends[number]}


@pytest.mark.fault(number=14, name="retention", rounds=2, short=0)
@pytest.mark.parametrize("how_much", ["all of it", "the first half"])
def test_records_that_are_dropped_unread(
    pair: tuple[Host, Host],
    group: Group,
    rounds: int,
    rng: random.Random,
    figures: Figures,
    how_much: str,
) -> None:
    """While the receiver is away: it counts what is missing, and each file is sent again."""
    sender, receiver = pair
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            put_versions(sender, rng)
            judge.all_published(60)
            before = group.ends()
            assert receiver.terminate() == 0
            put_versions(sender, rng)
            sender.put("large", rng.randbytes(LARGE))
            all_in_kafka(sender)
            ends = group.ends()
            half = {number: (before[number] + end) // 2 for number, end in ends.items()}
            group.forget(ends if how_much == "all of it" else half)
            receiver.start()
            put_versions(sender, rng, 3)
            figures.sample("seconds until all was there", judge.all_published(120))
        judge.holds(
            bad={**REPEATED, "offsets-lost": (1, 100_000), "gap": (0, 10_000)},
        )
    assert conflicts(receiver) == []
