"""The first record of a file that is sent twice, as kfd's senders do: it tells nothing of order."""

from __future__ import annotations

import pytest

from tests.parts import Receiving
from tests.peerfiles import PeerFile
from tests.unit.scattered.topic import Topic, bad, read_rest, states


@pytest.fixture
def topic() -> Topic:
    return Topic()


def send_again(topic: Topic, file: PeerFile) -> None:
    """As kfd sends a path that was sent before: in one partition, the first record twice."""
    topic.add(file.value(1), 0)
    for index in range(1, file.total + 1):
        topic.add(file.value(index), 0)


@pytest.mark.parametrize("batch", [1, 2, 3, 256])
@pytest.mark.parametrize("size", [1, 4, 9])
def test_clock_that_goes_back(parts: Receiving, topic: Topic, size: int, batch: int) -> None:
    """The order of the partition counts, not the clock."""
    for content in (b"1", b"2", b"3"):
        send_again(topic, PeerFile(content * size))
        topic.now -= 3_600_000
        if batch < 256:
            read_rest(parts, topic, batch)
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": b"3" * size}
    assert states(parts) == [(b"run.trc", "published")] * 3
    assert parts.receiver.safe_offsets() == topic.ends()


def test_repeat_of_a_file_that_has_ended_is_no_news(parts: Receiving, topic: Topic) -> None:
    file = PeerFile(b"one")
    send_again(topic, file)
    read_rest(parts, topic)
    assert bad(parts) == {}


def test_records_that_are_apart_may_be_of_two_uploads(parts: Receiving, topic: Topic) -> None:
    """Changed and changed back: of that, one partition shows only the same record, twice."""
    old, new = PeerFile(b"two bits"), PeerFile(b"new")
    for index in (1, 2):
        topic.add(old.value(index), index)
    parts.receiver.receive([*topic.records[1], *topic.records[2]])
    topic.now += 60_000
    topic.add(new.value(1), 2)
    topic.now += 60_000
    for index in (1, 2):
        topic.add(old.value(index), index)
    parts.receiver.receive(topic.records[1][1:])
    for record in topic.records[2][1:]:
        parts.receiver.receive([record])
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": old.content}
