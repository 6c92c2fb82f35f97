"""What people cancel while the feed and the producers have it, and routes that are paused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, cancelling, outgoing
from kfd.daemon.outgoing.sending import Sending
from tests.support import eventually
from tests.unit.feed.feeding import TOPIC, Feeding, feeding, large, paths, small


def cancel(one: Feeding, tid: bytes) -> None:
    """As ``Interventions`` does it."""
    number = outgoing.by_tid(one.ledger.reader(), tid).id
    sending = one.feed.withdraw(number)
    if sending is None or sending.withdraw("cancelled by anna"):
        one.ledger.write(lambda db: cancelling.cancel(db, number, "cancelled by anna"))
    one.feed.withdrawn(number)


def test_what_waits_for_its_turn_is_not_read(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        (tid,) = one.accept(large(1))
        turn = one.take()
        one.feed.give_back(turn, turn.sendings)
        cancel(one, tid)
        turn = one.take()  # for the producer to see that it has failed
        (sending,) = turn.sendings
        assert sending.is_withdrawn
        assert one.row(tid)[0] == "cancelled"


def test_what_was_cancelled_before_it_was_admitted_never_is(ledger: Ledger) -> None:
    """Cancelled between the feed's look at the ledger and its taking it up."""
    with feeding(ledger) as one:
        one.show(None)
        (tid,) = one.accept(small(1))
        number = outgoing.by_tid(ledger.reader(), tid).id
        assert one.feed.withdraw(number) is None
        one.show(TOPIC)
        eventually(lambda: one.row(tid)[0] == "sending", 10)
        assert one.idle()
        ledger.write(lambda db: cancelling.cancel(db, number, "cancelled by anna"))
        one.feed.withdrawn(number)
        one.accept(small(2))
        assert paths(one.take()) == [b"small/2"]


def test_what_could_not_be_cancelled_goes_on(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.show(None)
        (tid,) = one.accept(small(1))
        number = outgoing.by_tid(ledger.reader(), tid).id
        assert one.feed.withdraw(number) is None
        one.show(TOPIC)
        eventually(lambda: one.row(tid)[0] == "sending", 10)
        one.feed.withdrawn(number)  # the disk was full, say
        assert paths(one.take()) == [b"small/1"]


def test_a_paused_route_has_no_turns_and_others_have(ledger: Ledger) -> None:
    paused = {"lab"}
    with feeding(ledger, paused=paused) as one:
        one.accept(small(1), large(1))
        one.accept(small(2), route="other")
        assert paths(one.take()) == [b"small/2"]
        assert one.idle()
        assert [row[0] for row in map(one.row, tids(one))].count("queued") == 2
        paused.clear()
        one.feed.resumed()
        assert {path for _ in range(2) for path in paths(one.take())} == {b"small/1", b"large/1"}


def test_a_large_file_stands_still_while_its_route_is_paused(ledger: Ledger) -> None:
    paused: set[str] = set()
    with feeding(ledger, paused=paused) as one:
        one.accept(large(1))
        turn = one.take()
        assert one.feed.in_flight(["lab"]) == 1
        paused.add("lab")
        one.serve(turn)
        assert one.idle()
        assert one.feed.in_flight(["lab"]) == 0
        paused.clear()
        one.feed.resumed()
        assert paths(one.take()) == [b"large/1"]


def tids(one: Feeding) -> list[bytes]:
    return [tid for (tid,) in one.ledger.reader().execute("SELECT tid FROM outgoing")]


@pytest.fixture
def sending(tmp_path: Path, ledger: Ledger) -> Sending:
    """A file of two chunks."""
    path = tmp_path / "file"
    path.write_bytes(b"v" * 2000)
    status = os.stat(path)
    with feeding(ledger) as one:
        one.accept(FileVersion.of(b"file", os.fsencode(path), status, inodes=True))
        (sending,) = one.take().sendings
    return sending


def test_the_last_record_is_either_produced_or_withdrawn(sending: Sending) -> None:
    assert sending.read() is not None
    assert sending.withdraw("cancelled by anna")
    assert sending.read() is None
    assert not sending.read_to_end
    assert not sending.withdraw("cancelled by bob")
    assert sending.failure is not None
    assert (sending.failure.state, sending.failure.reason) == ("cancelled", "cancelled by anna")
    sending.close()


def test_what_was_read_to_its_end_is_not_withdrawn(sending: Sending) -> None:
    assert sending.read() is not None
    assert sending.read() is not None
    assert not sending.withdraw("cancelled by anna")
    assert sending.failure is None
    sending.close()
