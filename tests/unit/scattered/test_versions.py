"""Which upload is the newest, and what is the same one read again: over kills and replays."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kfd.daemon.ledger import Ledger
from kfd.offsets import Progress
from tests.parts import TOPIC_ID, Receiving, receiving, running_ledger
from tests.peerfiles import PeerFile
from tests.unit.scattered.topic import PARTITIONS, Topic, bad, read_rest, restart, states

A, B = PeerFile(b"a" * 20 + b"A"), PeerFile(b"b" * 9)
START: dict[int, Progress | int] = dict.fromkeys(PARTITIONS, 0)


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_what_comes_back_later_is_published_again(
    parts: Receiving, topic: Topic, batch: int
) -> None:
    for file in (A, B, A, B, A):
        topic.upload(file)
        read_rest(parts, topic, batch)
    assert parts.visible() == {b"run.trc": A.content}
    assert states(parts) == [(b"run.trc", "published")] * 5
    restart(parts, START)
    read_rest(parts, topic, batch)
    assert states(parts) == [(b"run.trc", "published")] * 5
    assert parts.visible() == {b"run.trc": A.content}
    assert parts.receiver.safe_offsets() == topic.ends()
    assert bad(parts) == {}


@pytest.mark.parametrize("last", [A, B])
def test_partitions_that_are_read_one_after_the_other(
    parts: Receiving, topic: Topic, last: PeerFile
) -> None:
    """Uploads of the same content are then taken for one; what came last is there all the same."""
    for file in (A, B, A, last):
        topic.upload(file)
    for number in PARTITIONS:
        parts.receiver.receive(topic.records[number])
    assert parts.visible() == {b"run.trc": last.content}
    parts.receiver.pass_time(3601.0, PARTITIONS)
    assert parts.receiver.safe_offsets() == topic.ends()


@pytest.mark.parametrize("batch", [1, 256])
def test_one_chunk_that_comes_back_later(parts: Receiving, topic: Topic, batch: int) -> None:
    a, b = PeerFile(b"a"), PeerFile(b"b")
    for file in (a, b, a):
        topic.upload(file)
    read_rest(parts, topic, batch)
    assert parts.visible() == {b"run.trc": b"a"}
    assert states(parts) == [(b"run.trc", "published")] * 3


def test_shorter_version_keeps_nothing_of_the_old_one(parts: Receiving, topic: Topic) -> None:
    for size in (40, 9, 1, 0):
        topic.upload(PeerFile(bytes(size)))
        read_rest(parts, topic)
        assert parts.visible() == {b"run.trc": bytes(size)}


def test_same_version_that_comes_again_is_a_duplicate(parts: Receiving, topic: Topic) -> None:
    topic.upload(A)
    read_rest(parts, topic)
    topic.upload(A)
    read_rest(parts, topic)
    assert states(parts) == [(b"run.trc", "published")]
    assert bad(parts) == {"duplicate": A.total}
    assert parts.receiver.safe_offsets() == topic.ends()


def test_older_version_that_is_complete_later(parts: Receiving, topic: Topic) -> None:
    """Partitions aren't read in step: what is read last need not be the newest."""
    topic.upload(A)
    topic.upload(B)
    for number in (1, 2, 0):  # chunk 1 of B is in partition 1, 2 in 2, 3 in 0
        parts.receiver.receive([r for r in topic.records[number] if r.value in B.values()])
    assert parts.visible() == {b"run.trc": B.content}
    restart(parts, START)
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": B.content}
    assert (b"run.trc", "superseded") in states(parts)
    assert parts.receiver.safe_offsets() == topic.ends()


def test_clock_that_goes_back_loses_nothing(parts: Receiving, topic: Topic) -> None:
    """Where both versions have records in a partition, its order counts and not the clock."""
    topic.upload(A)
    topic.now -= 3_600_000
    topic.upload(B)
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": B.content}


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_life_that_ends_amid_a_file(parts: Receiving, topic: Topic, kept: int) -> None:
    topic.upload(B)
    topic.upload(A)
    records = [record for number in PARTITIONS for record in topic.records[number]]
    parts.receiver.receive(records[:kept])
    committed = parts.receiver.progress()
    restart(parts, dict(committed))
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": A.content}
    assert parts.parts() == []
    assert states(parts).count((b"run.trc", "published")) == len(states(parts)) <= 2


def test_another_host_goes_on_without_what_has_ended(
    ledger: Ledger, parts: Receiving, topic: Topic, tmp_path: object
) -> None:
    done, opened = PeerFile(os.urandom(40), "done"), PeerFile(os.urandom(40), "open")
    first = topic.upload(opened)[0]
    topic.upload(done)
    parts.receiver.receive([first])
    for number in PARTITIONS:
        rest = [r for r in topic.records[number] if r.value in done.values()]
        parts.receiver._reading[number].advance(rest[0].offset)
        parts.receiver.receive(rest)
    assert parts.visible() == {b"done": done.content}
    committed = parts.receiver.progress()
    with (
        running_ledger(parts.root.parent / "other") as other,
        receiving(other, parts.root.parent / "there", mixed=True, take=False) as heir,
    ):
        for number, one in committed.items():
            heir.receiver.take(number, TOPIC_ID, one.offset, one)
        heir.receiver.receive([first])
        read_rest(heir, topic)
        assert b"done" not in heir.visible()
        assert bad(heir) == {}


def test_lost_partitions_take_their_files_along(parts: Receiving, topic: Topic) -> None:
    topic.upload(A)
    parts.receiver.receive(topic.records[0])
    parts.receiver.drop([0])
    assert parts.parts() == []
    assert parts.receiver.open_transfers() == []
    parts.receiver.take(0, TOPIC_ID, 0)
    parts.receiver.receive(topic.records[1])
    parts.receiver.receive(topic.records[2])
    parts.receiver.drop([2])  # what partition 1 has of it is read again
    assert parts.receiver.take_rewinds() == {1: 0}
    assert parts.receiver.safe_offsets() == {0: 0, 1: 0}
    parts.receiver.take(2, TOPIC_ID, 0)
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": A.content}


FILES = [
    PeerFile(content * size, name)
    for name in ("one", "two")
    for content in (b"x", b"y")
    for size in (1, 4, 11)
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_uploads_in_any_lives(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is uploaded, in whatever order partitions are read, whenever lives end: the last
    upload of each file is there, no upload is published twice, nothing is held back for good."""
    home = tmp_path_factory.mktemp("lives")
    topic = Topic()
    uploads = data.draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=6))
    changes: dict[str, list[PeerFile]] = {}
    for file in uploads:
        topic.upload(file, data.draw(st.permutations(range(1, file.total + 1))))
        known = changes.setdefault(file.name, [])
        if known[-1:] != [file]:
            known.append(file)
    with (
        running_ledger(home / "state") as ledger,
        receiving(ledger, home / "data", mixed=True) as parts,
    ):
        for _ in range(data.draw(st.integers(0, 4))):
            committed = _live(parts, topic, data)
            restart(parts, committed)
        read_rest(parts, topic)
        assert parts.visible() == {
            name.encode(): some[-1].content for name, some in changes.items()
        }
        # uploads of the same content that were read in pieces may be taken for one; the rest goes
        parts.receiver.pass_time(3601.0, PARTITIONS)
        assert parts.parts() == []
        assert parts.receiver.safe_offsets() == topic.ends()
        ended = states(parts)
        for name in changes:
            found = sum(path == name.encode() and state != "expired" for path, state in ended)
            assert found <= sum(one.name == name for one in uploads)
        assert {state for _, state in ended} <= {"published", "superseded", "expired"}


def _live(parts: Receiving, topic: Topic, data: st.DataObject) -> dict[int, Progress | int]:
    """Read some, from any partition; what was committed at some time."""
    committed: dict[int, Progress | int] = dict(parts.receiver.progress())
    for number in data.draw(st.lists(st.sampled_from(PARTITIONS), max_size=12)):
        position = parts.receiver.positions()[number]
        count = data.draw(st.integers(1, 4))
        parts.receiver.receive(topic.records[number][position : position + count])
        parts.receiver.take_rewinds()
        if data.draw(st.booleans()):
            committed = dict(parts.receiver.progress())
    return committed
