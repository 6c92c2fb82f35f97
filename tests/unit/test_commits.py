"""What is believed of a commit, and what is committed: over a coordinator that keeps what it is
given, as brokers do. On real brokers: ``integration/test_resuming.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kfd.daemon.incoming.beginnings import Beginnings
from kfd.daemon.incoming.commits import EVERY_SECONDS, Commits, Inherited
from kfd.daemon.incoming.membership import Membership
from kfd.daemon.ledger import Ledger, publications
from kfd.daemon.ledger.publications import Received
from kfd.offsets import MAX_TEXT, Open, Progress
from tests.parts import ROUTE, TOPIC, TOPIC_ID, Sent

LOW, HIGH = 3, 100
OPEN = {5: Open(b"tail", 2, 7)}
SAID = Progress(TOPIC_ID, 5, 9, OPEN)


class Group:
    """What Kafka's client answers to a thread of the group, for partitions of one topic."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[int, str]] = {}
        self.asked: list[dict[int, tuple[int, str]]] = []  # every commit, as it was sent
        self.refuses: KafkaError | None = None
        self.low, self.high = LOW, HIGH

    def committed(self, partitions: Sequence[TopicPartition], _seconds: float) -> Any:
        return [
            TopicPartition(one.topic, one.partition, *self.kept.get(one.partition, ()))
            for one in partitions
        ]

    def get_watermark_offsets(self, _partition: TopicPartition, _seconds: float) -> Any:
        return (self.low, self.high) if self.high >= 0 else None

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        new = {one.partition: (one.offset, one.metadata or "") for one in offsets}
        self.asked.append(new)
        if self.refuses is None:
            self.kept |= new
        elif not asynchronous:
            raise KafkaException(self.refuses)


@pytest.fixture
def group() -> Group:
    return Group()


def make(ledger: Ledger, *, start: str = "earliest", made_anew: bool = False) -> Commits:
    """Of a thread in a new life of the daemon."""
    membership = Membership(ROUTE, TOPIC, "group", "member", start, whole=True)
    beginnings = Beginnings(ROUTE, ledger)
    return Commits("consumer-archive-1", membership, beginnings, TOPIC_ID, made_anew)


def inherit(commits: Commits, group: Group, number: int = 0) -> Inherited:
    (found,) = commits.inherited(group, [TopicPartition(TOPIC, number)])  # type: ignore[arg-type]
    return found


def commit(commits: Commits, group: Group, *said: Progress, wait: bool = True) -> None:
    commits.commit(group, dict(enumerate(said)), wait=wait)  # type: ignore[arg-type]


def ended_here(ledger: Ledger, first_offset: int) -> None:
    """A transfer of partition 0 was published."""
    one = Sent(b"x")
    row = Received(ROUTE, TOPIC_ID, 0, first_offset, one.tid, one.begin, None, b"x", 0)
    ledger.write(lambda db: publications.intend(db, [row]))
    ledger.write(lambda db: publications.conclude(db, [row], []))


# What is believed


def test_what_a_commit_says_is_believed_if_all_of_it_is_valid(ledger: Ledger, group: Group) -> None:
    group.kept[0] = (5, SAID.encode())
    assert inherit(make(ledger), group) == Inherited(0, 5, SAID)


def test_position_at_the_end_of_the_topic_is_believed(ledger: Ledger, group: Group) -> None:
    group.kept[0] = (5, SAID.encode())
    group.high = SAID.position
    assert inherit(make(ledger), group).progress == SAID


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (5, ""),
        (5, "another program's"),
        (5, SAID.encode() + " "),
        (4, SAID.encode()),
        (6, SAID.encode()),
        (5, Progress(TOPIC_ID, 5, HIGH + 1, {}).encode()),
    ],
    ids=["nothing", "foreign", "nearly", "earlier offset", "later offset", "beyond the end"],
)
def test_offset_alone_counts_where_the_rest_is_not_valid(
    ledger: Ledger, group: Group, offset: int, text: str
) -> None:
    group.kept[0] = (offset, text)
    assert inherit(make(ledger), group) == Inherited(0, offset, None)


def test_commit_of_another_topic_of_that_name_counts_for_nothing(
    ledger: Ledger, group: Group
) -> None:
    group.kept[0] = (50, Progress("topic-0", 50, 60, {}).encode())
    assert inherit(make(ledger), group) == Inherited(0, LOW, None)


def test_mute_commit_is_not_believed_once_the_topic_was_made_again(
    ledger: Ledger, group: Group
) -> None:
    group.kept |= {0: (50, ""), 1: (50, "")}
    commits = make(ledger, made_anew=True)
    assert inherit(commits, group) == Inherited(0, LOW, None)
    long = Progress(TOPIC_ID, 50, 50, {at: Open(b"tail", 1, at) for at in range(50, 900)})
    assert long.encode() == ""
    commit(commits, group, long)
    assert inherit(commits, group) == Inherited(0, 50, None), "its own"
    assert inherit(commits, group, 1) == Inherited(1, LOW, None)


# Where nothing was committed


@pytest.mark.parametrize(("start", "offset"), [("earliest", LOW), ("latest", HIGH)])
def test_first_time_begins_where_the_route_says(
    ledger: Ledger, group: Group, start: str, offset: int
) -> None:
    commits = make(ledger, start=start)
    assert inherit(commits, group) == Inherited(0, offset, None)
    assert inherit(commits, group, 1) == Inherited(1, offset, None), "all of this life"


@pytest.mark.parametrize("start", ["earliest", "latest"])
@pytest.mark.parametrize(("last", "offset"), [(None, 0), (1, 2), (50, LOW)])
def test_later_nothing_is_skipped_and_what_is_lost_shows(
    ledger: Ledger, group: Group, start: str, last: int | None, offset: int
) -> None:
    inherit(make(ledger, start=start), group)
    if last is not None:
        ended_here(ledger, last)
    assert inherit(make(ledger, start=start), group) == Inherited(0, offset, None)


def test_brokers_that_do_not_answer_are_an_error(ledger: Ledger, group: Group) -> None:
    group.high = -1
    with pytest.raises(KafkaException, match="_TIMED_OUT"):
        inherit(make(ledger), group)


# What is committed


def test_only_what_is_new_is_committed(ledger: Ledger, group: Group) -> None:
    commits = make(ledger)
    other = Progress(TOPIC_ID, 8, 8, {})
    commit(commits, group, SAID, other)
    commit(commits, group, SAID, other)
    later = Progress(TOPIC_ID, 8, 11, {})
    commit(commits, group, SAID, later)
    assert group.asked == [
        {0: (5, SAID.encode()), 1: (8, other.encode())},
        {1: (8, later.encode())},
    ]
    assert inherit(commits, group, 1) == Inherited(1, 8, later)


def test_commits_wait_for_one_another_but_not_before_leaving(
    ledger: Ledger, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("kfd.daemon.incoming.commits.time.monotonic", lambda: clock[0])
    commits = make(ledger)
    steps = [Progress(TOPIC_ID, offset, offset, {}) for offset in (1, 2, 3, 4)]
    commit(commits, group, steps[0], wait=False)
    commit(commits, group, steps[1], wait=False)
    clock[0] += EVERY_SECONDS
    commit(commits, group, steps[2], wait=False)
    commit(commits, group, steps[3], wait=True)
    assert [asked[0][0] for asked in group.asked] == [1, 3, 4]


def test_commit_that_was_not_taken_is_made_again(ledger: Ledger, group: Group) -> None:
    commits = make(ledger)
    lost = KafkaError(KafkaError.REQUEST_TIMED_OUT)
    group.refuses = lost
    commit(commits, group, SAID)
    commit(commits, group, SAID, wait=True)
    assert len(group.asked) == 2
    group.refuses = None
    commit(commits, group, SAID)
    commits.on_commit(lost, [TopicPartition(TOPIC, 0)])  # that is heard later
    commit(commits, group, SAID)
    assert len(group.asked) == 4
    commits.on_commit(None, [TopicPartition(TOPIC, 0)])
    commit(commits, group, SAID)
    assert len(group.asked) == 4


def test_partition_that_came_back_is_committed_again(ledger: Ledger, group: Group) -> None:
    """Meanwhile another member may have committed something else."""
    commits = make(ledger)
    commit(commits, group, SAID)
    commits.forget(0)
    commit(commits, group, SAID)
    assert len(group.asked) == 2


def test_text_that_is_too_long_is_left_out(ledger: Ledger, group: Group) -> None:
    opened = {at: Open(b"tail", 1, at) for at in range(5, 5 + MAX_TEXT // 16)}
    commit(make(ledger), group, Progress(TOPIC_ID, 5, HIGH, opened))
    assert group.kept == {0: (5, "")}


@pytest.mark.parametrize("heard", ["at once", "later"])
def test_offset_alone_is_committed_where_brokers_take_no_text(
    ledger: Ledger, group: Group, heard: str
) -> None:
    """``offset.metadata.max.bytes`` may be smaller than by default."""
    commits = make(ledger)
    too_large = KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE)
    if heard == "at once":
        group.refuses = too_large
        commit(commits, group, SAID)
    else:
        commit(commits, group, SAID)
        commits.on_commit(too_large, [TopicPartition(TOPIC, 0)])
    group.refuses = None
    commit(commits, group, SAID)
    assert group.asked == [{0: (5, SAID.encode())}, {0: (5, "")}]
