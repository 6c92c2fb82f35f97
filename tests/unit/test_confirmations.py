"""The confirmations stage between what was read and the ledger, without a broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kfd.daemon.context import Context
from kfd.daemon.health import Health
from kfd.daemon.ledger import receiptreading
from kfd.daemon.pauses import Pauses
from kfd.daemon.rates import Rates
from kfd.daemon.receipts.confirmations import Confirmations
from kfd.daemon.receipts.reader import Letter
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import Topic
from kfd.receipts import SUFFIX, Outcome, Receipt, encode
from tests.parts import in_child, kill_self
from tests.sender import DIGEST, LAB2, TOPIC, Sender, running_sender

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

RECEIPTS = Topic(TOPIC + SUFFIX, "id-1", 1)


def reading(sender: Sender) -> Confirmations:
    """A stage that reads the receipts about one topic."""
    topics = TopicWatch(SimpleNamespace(), Health(), create=False)  # type: ignore[arg-type]
    context = Context(
        properties={}, ledger=sender.ledger, cluster=SimpleNamespace(), topics=topics,  # type: ignore[arg-type]
        health=Health(), rates=Rates(), pauses=Pauses(sender.ledger),
    )  # fmt: skip
    stage = Confirmations(context, {}, lambda route, topic: None)
    stage._reading = {TOPIC: RECEIPTS}
    return stage


def told(tid: bytes) -> Letter:
    """The record in which a receiver says that it has published it."""
    (record,) = encode("lab2", LAB2, [Receipt(tid, Outcome.PUBLISHED, DIGEST)])
    return Letter(RECEIPTS.name, 0, 7, None, record)


def position(sender: Sender) -> dict[int, int]:
    return receiptreading.positions(sender.ledger.reader(), RECEIPTS.name, RECEIPTS.topic_id)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_read_and_where_to_read_on_are_one_transaction(tmp_path: Path, when: str) -> None:
    """Killed around the first transaction: both are noted, or none."""
    with running_sender(tmp_path) as sender:
        tid = sender.send()

    def run() -> None:
        with running_sender(tmp_path) as sender:
            stage = reading(sender)
            write = sender.ledger.write_patiently

            def kill_around(operation: Callable[[object], object]) -> None:
                if when == "after":
                    write(operation)
                kill_self()

            sender.ledger.write_patiently = kill_around  # type: ignore[assignment]
            stage._take(told(tid))
            stage._save()

    assert in_child(run) == -9
    with running_sender(tmp_path) as sender:
        done = when == "after"
        assert sender.row(tid) == ("delivered" if done else "in_kafka")
        assert position(sender) == ({0: 8} if done else {})


def test_what_is_for_us_is_noted_at_once_and_the_rest_now_and_then(tmp_path: Path) -> None:
    with running_sender(tmp_path) as sender:
        stage = reading(sender)
        stage._reader = SimpleNamespace(poll=lambda timeout: letters)  # type: ignore[assignment]
        stage._follow_at = stage._tidy_at = stage._dropped_at = stage._note_at = float("inf")
        letters = [Letter(RECEIPTS.name, 0, 3, b"another's", b"")]
        stage._step()
        assert position(sender) == {}
        letters = [told(sender.send())]
        stage._step()
        assert position(sender) == {0: 8}
        assert sender.counts() == {"delivered": 1}


def test_receipts_of_a_topic_that_is_not_read_any_more_are_left(tmp_path: Path) -> None:
    with running_sender(tmp_path) as sender:
        stage = reading(sender)
        stage._reading = {}
        stage._take(told(sender.send()))
        assert stage._inbox.empty
