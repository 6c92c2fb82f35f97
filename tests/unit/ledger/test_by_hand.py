"""What people cancel and retry, as the ledger has it."""

from __future__ import annotations

import pytest

from kfd.control import State, Transfer
from kfd.control.transfers import Details
from kfd.daemon.ledger import (
    cancelling,
    details,
    known,
    outgoing,
    pausing,
    queries,
    retrying,
    searching,
)
from tests.parts import version
from tests.sender import ROUTE, TOPIC, Sender


def cancel(sender: Sender, tid: bytes) -> bool:
    number = outgoing.by_tid(sender.ledger.reader(), tid).id
    row = sender.ledger.write(lambda db: cancelling.cancel(db, number, "cancelled by anna"))
    return row is not None


def retry(sender: Sender, *tids: bytes) -> list[str]:
    """Why those were refused that were."""
    rows = [outgoing.by_tid(sender.ledger.reader(), tid) for tid in tids]
    refused = sender.ledger.write(lambda db: retrying.retry(db, rows, 1000))
    return [refused[row.id] for row in rows if row.id in refused]


def shown(sender: Sender, tid: bytes) -> tuple[Transfer, Details]:
    reader = sender.ledger.reader()
    transfer = queries.find(reader, "scope3", tid.hex())
    found = details.of(reader, transfer)
    assert found is not None
    return transfer, found


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_not_in_kafka_is_cancelled_once(sender: Sender, begun: bool) -> None:
    tid = sender.queue()
    if begun:
        sender.claim()
    assert cancel(sender, tid)
    assert not cancel(sender, tid)
    assert sender.row(tid) == "cancelled"
    assert sender.row(tid, "reason") == "cancelled by anna"
    assert sender.counts() == {"cancelled": 1}
    if begun:
        sender.end(tid)  # what the deliveries say of it later changes nothing
        assert sender.row(tid) == "cancelled"
        assert sender.counts() == {"cancelled": 1}


@pytest.mark.parametrize("state", ["in_kafka", "failed"])
def test_what_has_ended_is_not_cancelled(sender: Sender, state: str) -> None:
    tid = sender.queue()
    sender.claim()
    sender.end(tid, state)
    assert not cancel(sender, tid)
    assert sender.row(tid) == state


def put_aside(sender: Sender, tid: bytes) -> None:
    number = outgoing.by_tid(sender.ledger.reader(), tid).id
    sender.ledger.write(lambda db: cancelling.put_aside(db, number, "put aside by anna"))


def test_what_has_failed_is_put_aside_once(sender: Sender) -> None:
    tid = sender.queue(b"run.trc")
    sender.claim()
    sender.end(tid, "failed")
    sender.send(b"run.trc", mtime_ns=99)  # so that it can't be retried
    for _ in range(2):
        put_aside(sender, tid)
        assert sender.row(tid) == "cancelled"
        assert sender.counts() == {"cancelled": 1, "in_kafka": 1}
        assert str(sender.row(tid, "reason")).startswith("put aside by anna; it had failed: ")
    sender.hear(tid)
    assert sender.row(tid) == "cancelled"


def test_only_what_has_failed_is_put_aside(sender: Sender) -> None:
    tid = sender.send()
    put_aside(sender, tid)
    assert sender.row(tid) == "in_kafka"


def test_a_cancelled_file_is_known_and_not_queued_by_a_scan(sender: Sender) -> None:
    cancel(sender, sender.queue(b"run.trc"))
    reader = sender.ledger.reader()
    assert known.unknown(reader, ROUTE, TOPIC, [version(b"run.trc")]) == []


@pytest.mark.parametrize("how", ["failed", "cancelled", "given up by receivers"])
def test_what_failed_or_was_cancelled_is_queued_anew(sender: Sender, how: str) -> None:
    if how == "given up by receivers":
        tid = sender.give_up()
    else:
        tid = sender.queue()
        sender.claim()
        if how == "cancelled":
            cancel(sender, tid)
        else:
            sender.end(tid, "failed")
    before = sender.counts()
    assert retry(sender, tid) == []
    transfer, found = shown(sender, tid)
    assert transfer.state == "cancelled"
    assert transfer.successor is not None
    new, new_details = shown(sender, bytes.fromhex(transfer.successor))
    assert (new.state, new_details.predecessor) == ("queued", tid.hex())
    assert new_details.generation == found.generation
    assert new_details.tries == 0
    assert sender.counts().get("failed", 0) == 0
    assert sender.counts()["cancelled"] == before.get("cancelled", 0) + (how != "cancelled")
    assert retry(sender, tid) == [f"{transfer.successor[-8:]} took its place"]
    sender.claim()
    sender.end(bytes.fromhex(transfer.successor))
    assert sender.row(bytes.fromhex(transfer.successor)) == "in_kafka"


def test_what_was_forgotten_is_known_again_once_it_is_retried(sender: Sender) -> None:
    tid = sender.queue(b"run.trc")
    sender.claim()
    sender.end(tid, "failed")
    sender.ledger.write(lambda db: known.forget(db, ROUTE, TOPIC, [b"run.trc"]))
    assert retry(sender, tid) == []
    assert known.unknown(sender.ledger.reader(), ROUTE, TOPIC, [version(b"run.trc")]) == []


def test_an_older_version_is_not_retried(sender: Sender) -> None:
    tid = sender.queue(b"run.trc")
    sender.claim()
    sender.end(tid, "failed")
    sender.queue(b"run.trc", mtime_ns=99)
    assert retry(sender, tid) == ["a newer version of the file was sent since"]
    assert sender.row(tid) == "failed"


def test_what_is_on_its_way_is_not_retried(sender: Sender) -> None:
    tids = [sender.queue(b"a"), sender.send(b"b")]
    assert retry(sender, *tids) == ["it is sending", "it is in-kafka"]


def test_what_failed_is_found_in_pages_by_route_and_user(sender: Sender) -> None:
    tids = [sender.queue(b"run%d" % n, uid=1000 + n % 2) for n in range(6)]
    sender.claim()
    for tid in tids:
        sender.end(tid, "failed")
    reader = sender.ledger.reader()
    page = retrying.failed(reader, None, None, 0, 4)
    rest = retrying.failed(reader, ROUTE, None, page[-1].id, 4)
    assert [row.tid for row in page + rest] == tids
    assert [row.tid for row in retrying.failed(reader, None, 1001, 0, 9)] == tids[1::2]
    assert retrying.failed(reader, "other", None, 0, 9) == []


def test_pauses_outlive_a_restart(sender: Sender) -> None:
    paused = sender.ledger.write(lambda db: pausing.pause(db, ["a", ""]))
    again = sender.ledger.write(lambda db: pausing.pause(db, ["a", "b"]))
    assert again == paused | {"b": again["b"]}  # since when: since the first time
    assert sender.ledger.write(lambda db: pausing.resume(db, ["a", "none"])).keys() == {"", "b"}
    assert pausing.paused(sender.ledger.reader()).keys() == {"", "b"}


@pytest.mark.parametrize("state", ["failed", "cancelled", "in_kafka", "queued"])
def test_rare_states_are_found_without_reading_history(sender: Sender, state: str) -> None:
    plan = sender.ledger.reader().execute(
        f"EXPLAIN QUERY PLAN SELECT id FROM {searching._INDEXED[State(state)]}"
        " ORDER BY id DESC LIMIT 1"
    )
    text = " ".join(str(row[-1]) for row in plan)
    assert "USING" in text
    assert "INDEX outgoing_" in text


def test_why_one_is_not_retried_is_known_without_its_file(sender: Sender) -> None:
    tid = sender.send()
    sender.hear(tid)
    row = outgoing.by_tid(sender.ledger.reader(), tid)
    assert retrying.obstacles(sender.ledger.reader(), [row]) == {row.id: "it is delivered"}
