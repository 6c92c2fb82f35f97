"""Events from the rows of the ledger: each step once, in order, whoever follows."""

from __future__ import annotations

import time

import pytest

from kfd.control import State
from kfd.daemon.ledger import answersize, cancelling, events
from kfd.errors import KfdError
from tests.sender import Sender

WAY = [State.QUEUED, State.SENDING, State.IN_KAFKA, State.DELIVERED]


def told(some: list[events.Event], tid: bytes) -> list[State]:
    return [one.state for one in some if one.tid == tid]


def deliver(sender: Sender, tid: bytes) -> None:
    sender.end(tid)
    sender.hear(tid)


def test_the_latest_are_all_steps_in_order(sender: Sender) -> None:
    tids = [sender.queue(b"run%d" % number) for number in range(5)]
    sender.claim()
    for tid in tids[:3]:
        deliver(sender, tid)
    sender.end(tids[3], "failed")
    latest = events.latest(sender.ledger.reader(), 100)
    assert [told(latest, tid) for tid in tids] == [
        *[WAY] * 3, [State.QUEUED, State.SENDING, State.FAILED], [State.QUEUED, State.SENDING],
    ]  # fmt: skip
    assert latest == sorted(latest)
    assert events.latest(sender.ledger.reader(), 4) == latest[-4:]
    assert events.latest(sender.ledger.reader(), 100, time.time() + 1) == []


def test_names_that_are_too_long_together(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in rows before these are all in memory, and as often as they are told."""
    monkeypatch.setattr(answersize, "MAX_NAMES", 10)
    tids = [sender.queue(name) for name in (b"aaaa", b"bbbb")]
    sender.claim()
    deliver(sender, tids[0])
    for limit in (4, 100):
        with pytest.raises(KfdError, match="too long for one answer"):
            events.latest(sender.ledger.reader(), limit)
    assert len(events.latest(sender.ledger.reader(), 2)) == 2
    sender.queue(b"c" * 11)
    with pytest.raises(KfdError, match="too long for one answer"):
        events.latest(sender.ledger.reader(), 1)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize("looks", ["after each step", "at the end"])
def test_a_follower_is_told_each_step_once(sender: Sender, limit: int, looks: str) -> None:
    old = sender.queue(b"old")
    sender.claim()
    sender.end(old)
    follower = events.Follower(sender.ledger.reader())
    seen: list[events.Event] = []

    def look() -> None:
        while new := follower.read(sender.ledger.reader(), limit):
            seen.extend(new)

    def step() -> None:
        if looks == "after each step":
            look()

    tids = [sender.queue(b"run%d" % number) for number in range(6)]
    step()
    sender.claim()
    step()
    number = sender.rows[tids[5]].id
    sender.ledger.write(lambda db: cancelling.cancel(db, number, "cancelled by anna"))
    for tid in tids[:5]:
        sender.end(tid)
        step()
    for tid in [old, *tids[:5]]:
        sender.hear(tid)
        step()
    look()
    assert told(seen, old) == [State.DELIVERED]
    assert told(seen, tids[5]) == [State.QUEUED, State.SENDING, State.CANCELLED]
    if looks == "after each step" or limit > len(tids):
        assert [told(seen, tid) for tid in tids[:5]] == [WAY] * 5
    else:  # who is behind may miss what was before a file was delivered, and nothing else
        for tid in tids[:5]:
            assert told(seen, tid) in (WAY, [State.QUEUED, State.DELIVERED])
    assert [one.reason for one in seen if one.state is State.CANCELLED] == ["cancelled by anna"]
    assert follower.read(sender.ledger.reader(), limit) == []


def test_a_clock_that_is_set_back_hides_nothing(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sender.queue(b"first")
    sender.claim()
    sender.end(first)
    follower = events.Follower(sender.ledger.reader())
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    tid = sender.queue(b"run")
    sender.claim()
    sender.end(tid)
    assert told(follower.read(sender.ledger.reader(), 100), tid) == WAY[:3]
