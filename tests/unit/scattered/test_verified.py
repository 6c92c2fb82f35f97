"""What was verified and not published yet, when its partitions go or its partial is lost."""

from __future__ import annotations

import errno
import os

import pytest

from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import DiskError, Hasher, Partials
from tests.parts import TOPIC_ID, Receiving
from tests.peerfiles import PeerFile
from tests.unit.scattered.topic import PARTITIONS, Topic, read_rest, states

A = PeerFile(os.urandom(3 * 4096), "a", chunk_size=4096)
B = PeerFile(os.urandom(3 * 4096), "b", chunk_size=4096)
CONTENTS = {b"a": A.content, b"b": B.content}


@pytest.fixture
def topic(parts: Receiving, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """Both files came; the first is verified, and the disk has failed before it was published."""
    topic = Topic()
    records = [*topic.upload(A), *topic.upload(B)]
    read = Partials.hash
    calls = []

    def fails(self: Partials, key: PartKey, hasher: Hasher, start: int, end: int) -> None:
        calls.append(key)
        if len(calls) > 1:
            raise DiskError(OSError(errno.EIO, "injected"), parts.root, key)
        read(self, key, hasher, start, end)

    with monkeypatch.context() as patched:
        patched.setattr(Partials, "hash", fails)
        with pytest.raises(DiskError):
            parts.receiver.receive(records)
    return topic


def test_partitions_that_come_back_begin_anew(parts: Receiving, topic: Topic) -> None:
    parts.receiver.drop(PARTITIONS)
    for number in PARTITIONS:
        parts.receiver.take(number, TOPIC_ID, 0)
    parts.receiver.receive(topic.records[2][:1])  # of A, and only one of three chunks
    assert parts.visible() == {}
    assert states(parts) == []
    read_rest(parts, topic)
    assert parts.visible() == CONTENTS
    assert states(parts) == [(b"a", "published"), (b"b", "published")]


@pytest.mark.parametrize("lost", [[0], [1, 2]])
def test_some_partitions_that_come_back(parts: Receiving, topic: Topic, lost: list[int]) -> None:
    parts.receiver.drop(lost)
    parts.receiver.resume()
    assert parts.visible() == {}
    for number in lost:
        parts.receiver.take(number, TOPIC_ID, 0)
    parts.receiver.take_rewinds()
    read_rest(parts, topic)
    assert parts.visible() == CONTENTS
    assert states(parts) == [(b"a", "published"), (b"b", "published")]


def test_partitions_that_are_gone(parts: Receiving, topic: Topic) -> None:
    parts.receiver.drop(PARTITIONS)
    parts.receiver.resume()
    assert parts.visible() == {}
    assert states(parts) == []


def test_partitions_that_are_only_forgotten(parts: Receiving, topic: Topic) -> None:
    """As when the disk fails still, and the partials can't be removed."""
    parts.receiver.forget(PARTITIONS)
    parts.receiver.resume()
    assert parts.visible() == {}


def test_partial_that_is_spoiled_after_it_was_verified(parts: Receiving, topic: Topic) -> None:
    """It is read again, and published once."""
    [verified] = parts.receiver._scattered._verified
    key = PartKey(verified.tid, verified.home)
    parts.receiver._spoiled.void_one(key)
    parts.receiver.resume()
    assert b"a" not in parts.visible()
    parts.receiver.take_rewinds()
    read_rest(parts, topic)
    assert parts.visible() == CONTENTS
    assert states(parts) == [(b"a", "published"), (b"b", "published")]
