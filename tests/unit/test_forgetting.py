"""What is forgotten of received files, and what must not be: a record that may come again finds
its transfer still known."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.ledger import Ledger, beginnings, forgetting, incoming
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import abandoned, sweep
from tests.parts import ROUTE, TOPIC, TOPIC_ID, Receiving, Sent, receiving

NOW = 2**40  # everything has ended before that
DEAD = "topic-0"  # the id that the topic had before


@pytest.fixture
def parts(ledger: Ledger, tmp_path: Path) -> Iterator[Receiving]:
    with receiving(ledger, tmp_path / "data", take=False) as parts:
        yield parts


def receive(parts: Receiving, topic_id: str, *sent: Sent, offset: int = 0) -> None:
    """A topic with this id is read, and holds these files of one record each."""
    parts.ledger.write(lambda db: beginnings.begin_to_read(db, ROUTE, topic_id))
    parts.receiver.take(0, topic_id, offset)
    for number, one in enumerate(sent):
        parts.receiver.receive(one.records(0, offset + number))
    parts.receiver.drop([0])


def files(count: int, prefix: str = "") -> list[Sent]:
    return [Sent(b"x", os.fsencode(f"{prefix}{number}")) for number in range(count)]


def counts(ledger: Ledger, topic_id: str) -> tuple[int, int, int]:
    """Rows of a topic: transfers, newest versions, whether it is known as read."""
    found = [
        ledger.reader()
        .execute(f"SELECT count(*) FROM {table} WHERE topic_id = ?", (topic_id,))
        .fetchone()[0]
        for table in ("incoming", "incoming_path", "reading")
    ]
    return found[0], found[1], found[2]


# Ended transfers


def prune(ledger: Ledger, low: int, older_than: float = NOW, partition: int = 0) -> int:
    return ledger.write(lambda db: forgetting.prune(db, TOPIC_ID, partition, low, older_than, 10))


def test_what_the_topic_may_show_again_is_not_forgotten(parts: Receiving) -> None:
    sent = files(4)
    receive(parts, TOPIC_ID, *sent)
    assert prune(parts.ledger, 4, partition=1) == 0
    assert prune(parts.ledger, 4, older_than=time.time() - 60) == 0
    assert prune(parts.ledger, 2) == 2
    known = incoming.closed(parts.ledger.reader(), ROUTE, TOPIC_ID, 0, [one.tid for one in sent])
    assert known == {one.tid for one in sent[2:]}
    (parts.root / "2").unlink()
    parts.receiver.take(0, TOPIC_ID, 2)
    parts.receiver.receive(sent[2].records(0, 2))
    assert b"2" not in parts.visible(), "it was published before"


def test_newest_version_is_known_after_its_transfer_was_forgotten(parts: Receiving) -> None:
    newest, older = Sent(b"newest"), Sent(b"older", generation=1)
    receive(parts, TOPIC_ID, newest)
    assert prune(parts.ledger, 10) == 1
    (parts.root / "run.trc").unlink()
    receive(parts, TOPIC_ID, older, offset=20)
    assert parts.visible() == {}


# A topic that was made again


def prune_dead(ledger: Ledger, limit: int = 1000, older_than: float = NOW) -> int:
    return ledger.write(lambda db: forgetting.prune_dead(db, ROUTE, DEAD, older_than, limit))


def dead(ledger: Ledger, route: str = ROUTE, topic: str = TOPIC) -> list[str]:
    return forgetting.dead_topics(ledger.reader(), route, topic, TOPIC_ID)


def test_topic_is_dead_when_it_has_another_id(parts: Receiving) -> None:
    receive(parts, DEAD, *files(1, "before-"))
    receive(parts, TOPIC_ID, *files(1))
    assert dead(parts.ledger) == [DEAD]
    assert dead(parts.ledger, topic="another") == []
    assert dead(parts.ledger, route="another") == []


def test_all_of_a_dead_topic_is_forgotten_and_nothing_of_the_living(parts: Receiving) -> None:
    receive(parts, DEAD, *files(3, "before-"))
    receive(parts, TOPIC_ID, *files(2))
    assert prune_dead(parts.ledger) == 3
    assert counts(parts.ledger, DEAD) == (0, 0, 0)
    assert counts(parts.ledger, TOPIC_ID) == (2, 2, 1)
    assert dead(parts.ledger) == []
    assert len(parts.visible()) == 5


def test_dead_topic_is_forgotten_a_page_at_a_time(parts: Receiving) -> None:
    receive(parts, DEAD, *files(5))
    pages = [prune_dead(parts.ledger, 2)]
    while pages[-1] == 2:
        assert counts(parts.ledger, DEAD)[2] == 1, "found again until all is done"
        pages.append(prune_dead(parts.ledger, 2))
    assert counts(parts.ledger, DEAD) == (0, 0, 0)


def test_dead_topic_is_kept_as_long_as_its_history(parts: Receiving) -> None:
    receive(parts, DEAD, *files(2))
    assert prune_dead(parts.ledger, older_than=time.time() - 60) == 0
    assert counts(parts.ledger, DEAD) == (2, 2, 1)


def test_dead_topic_with_an_intent_is_kept(parts: Receiving) -> None:
    """Its rename may have been done: that is to be settled first."""
    receive(parts, DEAD, *files(2))
    parts.ledger.write(
        lambda db: db.execute(
            "UPDATE incoming SET state = 'publishing', ended_at = NULL WHERE first_offset = 0"
        )
    )
    assert prune_dead(parts.ledger) == 0
    assert counts(parts.ledger, DEAD) == (2, 2, 1)


# Partials


LARGE = Sent(bytes(40), b"large")


def age(parts: Receiving, seconds: float) -> None:
    """As if nothing had been written into the partials for so long."""
    then = time.time() - seconds
    for name in parts.parts():
        os.utime(parts.root / ".kfd" / name, (then, then))


def begin(parts: Receiving, sent: Sent, offset: int = 0) -> str:
    """Let there be a durable partial, as a kill leaves it; its name."""
    parts.receiver.take(0, TOPIC_ID, offset)
    parts.receiver.receive(sent.records(0, offset)[:4])
    parts.receiver.checkpoint(leaving=True)
    parts.receiver.drop([0])
    return os.fsdecode(PartKey(sent.tid, 0).name)


def test_partials_that_nobody_went_on_with_are_removed_at_the_start(parts: Receiving) -> None:
    begin(parts, LARGE)
    sweep(parts.destination, TOPIC, time.time() - 3600)
    assert len(parts.parts()) == 1
    begin(parts, replace(LARGE, tid=os.urandom(16)), 10)
    age(parts, 4000)
    fresh = begin(parts, replace(LARGE, tid=os.urandom(16)), 20)
    sweep(parts.destination, TOPIC, time.time() - 3600)
    assert parts.parts() == [fresh]


def test_partial_of_what_has_ended_here_is_removed(parts: Receiving) -> None:
    """Killed after its end was on record, and before its partial was removed."""
    wrong = replace(LARGE, digest=bytes(32))
    begin(parts, wrong)
    (name,) = parts.parts()
    left = parts.root / ".kfd" / name
    os.link(left, parts.root / "left")
    parts.receiver.take(0, TOPIC_ID, 0)
    parts.receiver.receive(wrong.records())
    assert parts.receiver.take_rewinds() == {0: 0}, "the disk may be to blame"
    parts.receiver.receive(wrong.records())
    parts.receiver.drop([0])
    os.rename(parts.root / "left", left)
    parts.receiver.take(0, TOPIC_ID, 0)
    assert parts.parts() == []
    assert parts.receiver.open_transfers() == []


def of_anybody(_key: PartKey) -> set[PartKey]:
    return set()


def of_a_consumer(key: PartKey) -> set[PartKey]:
    return {key}


@pytest.mark.parametrize(
    ("held", "seconds", "found"),
    [(of_anybody, 7200, True), (of_anybody, 60, False), (of_a_consumer, 7200, False)],
    ids=["abandoned", "written lately", "held"],
)
def test_partial_is_abandoned_when_nobody_holds_or_writes_it(
    parts: Receiving, held: Callable[[PartKey], set[PartKey]], seconds: float, found: bool
) -> None:
    begin(parts, LARGE)
    age(parts, seconds)
    key = PartKey(LARGE.tid, 0)
    assert abandoned(parts.destination, held(key), 3600) == ([key] if found else [])
