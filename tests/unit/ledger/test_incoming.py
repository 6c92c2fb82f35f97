"""What is received: intents, publications, rejections, bad records."""

from __future__ import annotations

from kfd.control import State
from kfd.daemon.ledger import Ledger, dropped, forgetting, incoming, publications, queries
from kfd.daemon.ledger.dropped import BadRecord
from tests.parts import TOPIC_ID, Sent
from tests.unit.ledger.incoming_files import closed_in, newest, publish, received, received_as


def test_published_transfer_is_closed_and_the_newest(ledger: Ledger) -> None:
    sent = Sent(b"abc")
    ledger.write(lambda db: publications.intend(db, [received(sent)]))
    assert newest(ledger, sent) is None
    (intent,) = publications.intents(ledger.reader(), "archive")
    assert (intent.tid, intent.name, intent.inode) == (sent.tid, b"run.trc", 2)
    ledger.write(lambda db: publications.conclude(db, [received(sent)], []))
    assert publications.intents(ledger.reader(), "archive") == []
    found = newest(ledger, sent)
    assert found is not None
    assert (found.generation, found.name, found.size) == (sent.generation, b"run.trc", 3)
    tids = [sent.tid, bytes(16)]
    assert closed_in(ledger, 0, tids) == {sent.tid}
    assert incoming.closed(ledger.reader(), "archive", "topic-2", 0, tids) == set()
    assert incoming.closed(ledger.reader(), "other", TOPIC_ID, 0, tids) == set()


def test_more_tids_than_one_question_takes(ledger: Ledger) -> None:
    batch = [received(Sent(b"x", b"%d" % n)) for n in range(1300)]
    publish(ledger, *batch)
    tids = [one.tid for one in batch]
    assert closed_in(ledger, 0, tids) == set(tids)


def test_newest_published_version_never_goes_back(ledger: Ledger) -> None:
    new, old = Sent(b"new", generation=20), Sent(b"old", generation=10)
    publish(ledger, received(new, b"new"))
    publish(ledger, received(old, b"old"))
    found = newest(ledger, new)
    assert found is not None
    assert (found.generation, found.name) == (20, b"new")


def test_skipped_and_withdrawn_transfers_are_as_if_never_seen(ledger: Ledger) -> None:
    one, other = received(Sent(b"a")), received(Sent(b"b"))
    ledger.write(lambda db: publications.intend(db, [one, other]))
    ledger.write(lambda db: publications.conclude(db, [], [one]))
    ledger.write(lambda db: publications.withdraw(db, [other]))
    tids = [one.tid, other.tid]
    assert closed_in(ledger, 0, tids) == set()
    publish(ledger, one, other)


def test_withdraw_leaves_what_has_ended(ledger: Ledger) -> None:
    one = received(Sent(b"a"))
    publish(ledger, one)
    ledger.write(lambda db: publications.withdraw(db, [one]))
    assert closed_in(ledger, 0, [one.tid]) == {one.tid}


def test_rejected_transfer_has_its_reason(ledger: Ledger) -> None:
    one = received(Sent(b"a"))
    ledger.write(lambda db: publications.intend(db, [one]))
    ledger.write(lambda db: publications.reject(db, [(one, "quarantined", "why")]))
    found = queries.find(ledger.reader(), "here", one.tid.hex())
    assert (found.state, found.reason) == (State.QUARANTINED, "why")
    assert publications.intents(ledger.reader(), "archive") == []
    assert newest(ledger, Sent(b"a")) is None


def test_intents_are_settled(ledger: Ledger) -> None:
    done, void = received(Sent(b"done", b"done"), b"done"), received(Sent(b"void", b"void"))
    ledger.write(lambda db: publications.intend(db, [done, void]))
    ledger.write(lambda db: publications.rename_intent(db, received_as(done, b"other")))
    by_tid = {one.tid: one for one in publications.intents(ledger.reader(), "archive")}
    assert by_tid[done.tid].name == b"other"
    settled = [by_tid[done.tid]], [by_tid[void.tid]]
    ledger.write(lambda db: publications.settle(db, "archive", *settled))
    tids = [done.tid, void.tid]
    assert closed_in(ledger, 0, tids) == {done.tid}
    found = newest(ledger, Sent(b"done", b"done"))
    assert found is not None
    assert found.name == b"other"


def test_received_is_pruned_only_below_the_low_watermark(ledger: Ledger) -> None:
    below, above = received(Sent(b"a", b"a"), first_offset=4), received(Sent(b"b", b"b"))
    elsewhere = received(Sent(b"c", b"c"), first_offset=4, partition=1)
    publish(ledger, below, above, elsewhere)
    intended = received(Sent(b"d", b"d"), first_offset=1)
    ledger.write(lambda db: publications.intend(db, [intended]))

    def prune(topic_id: str, older_than: float) -> int:
        return ledger.write(lambda db: forgetting.prune(db, topic_id, 0, 5, older_than, 10))

    assert prune(TOPIC_ID, 1.0) == 0
    assert prune("topic-2", 2**40) == 0
    assert prune(TOPIC_ID, 2**40) == 1
    assert prune(TOPIC_ID, 2**40) == 0
    tids = [one.tid for one in (below, above, elsewhere, intended)]
    assert closed_in(ledger, 0, tids) == {above.tid, intended.tid}
    assert closed_in(ledger, 1, tids) == {elsewhere.tid}
    assert newest(ledger, Sent(b"a", b"a")) is not None  # or an older version could come again


def test_bad_records_are_added_up(ledger: Ledger) -> None:
    def count(*bad: BadRecord) -> None:
        ledger.write(lambda db: dropped.count_bad(db, "archive", bad))

    count(BadRecord("foreign", 2, "t", 0, 1), BadRecord("gap", 1, "t", 0, 2))
    count(BadRecord("foreign", 3, "t", 1, 7))
    assert dropped.bad_counts(ledger.reader(), "archive") == {"foreign": 5, "gap": 1}
    assert dropped.bad_counts(ledger.reader(), "other") == {}
