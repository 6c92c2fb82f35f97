"""What is on its way: claimed, interrupted, started over, ended, pruned."""

from __future__ import annotations

import time

from kfd.daemon.ledger import Ledger, endings, known, outgoing
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Claim, Progress
from tests.parts import TOPIC_ID, version
from tests.unit.ledger.outgoing_files import (
    CHUNK_SIZE,
    accept,
    accept_one,
    claim_all,
    end,
    queued,
    row,
)


def test_only_queued_transfers_can_be_claimed(ledger: Ledger) -> None:
    first, second = accept_one(ledger, version(b"a")), accept_one(ledger, version(b"b"))
    claims = [
        Claim(one.id, "t", one.path, TOPIC_ID, 5, CHUNK_SIZE, moved=True) for one in queued(ledger)
    ]
    end(ledger, first, "cancelled")
    claimed = ledger.write(lambda db: outgoing.claim(db, claims))
    assert claimed == {claims[1].id}
    assert row(ledger, first, "state, partition") == ("cancelled", None)
    columns = "state, topic_id, partition, chunk_size"
    assert row(ledger, second, columns) == ("sending", TOPIC_ID, 5, CHUNK_SIZE)
    assert ledger.write(lambda db: outgoing.claim(db, claims)) == set()


def test_partition_of_a_path_is_kept_for_its_next_version(ledger: Ledger) -> None:
    accept_one(ledger, version(size=1))
    claim_all(ledger, partition=6)
    accept_one(ledger, version(size=2))
    (waiting,) = queued(ledger)
    assert (waiting.topic_id, waiting.partition) == (TOPIC_ID, 6)


def test_progress_is_what_a_resume_starts_from(ledger: Ledger) -> None:
    accept_one(ledger, version(size=9 * CHUNK_SIZE))
    (one,) = claim_all(ledger)
    progress = [Progress(one.id, 4, 1234, 99.5)]
    ledger.write(lambda db: outgoing.note_progress(db, progress))
    (one,) = outgoing.sending(ledger.reader())
    assert (one.acked, one.first_offset, one.acked_at) == (4, 1234, 99.5)


def test_what_has_ended_stays_ended(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    claim_all(ledger)
    end(ledger, tid)
    end(ledger, tid, "failed", reason="late")
    assert row(ledger, tid, "state, reason") == ("in_kafka", "")


def test_forgetting_forgets_the_version_unless_a_newer_one_is_known(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1))
    claim_all(ledger)
    newer = accept_one(ledger, version(size=2))
    end(ledger, tid, "cancelled", forget=True)
    assert known.earlier(ledger.reader(), "lab", "t", version(size=2)) == newer
    claim_all(ledger)
    end(ledger, newer, "cancelled", forget=True)
    assert known.unknown(ledger.reader(), "lab", "t", [version(size=2)]) == [version(size=2)]


def test_start_over_takes_the_place_of_a_transfer(ledger: Ledger) -> None:
    old = accept_one(ledger, version(size=2 * CHUNK_SIZE), meta={"k": "v"}, uid=7)
    (one,) = claim_all(ledger, partition=4)
    new = ledger.write(lambda db: endings.start_over(db, one, "why"))
    assert row(ledger, old, "state, reason, successor") == ("cancelled", "why", new)
    (waiting,) = queued(ledger, LARGE)
    again = waiting
    assert (again.tid, again.path, again.source, again.size) == (
        *(new, one.path, one.source, one.size),
    )
    assert (again.meta, again.uid, again.acked) == ({"k": "v"}, 7, 0)
    assert waiting.partition == 4
    assert known.earlier(ledger.reader(), "lab", "t", version(size=2 * CHUNK_SIZE)) == new


def test_older_version_that_starts_over_does_not_overtake_the_newer(ledger: Ledger) -> None:
    """Newest wins: the same old bytes again don't become the newest version of their name."""
    accept_one(ledger, version(size=1, source=b"/a/run.trc"))
    (one,) = claim_all(ledger)
    newer = accept_one(ledger, version(size=2, source=b"/b/run.trc"))
    again = ledger.write(lambda db: endings.start_over(db, one, "the topic was made again"))
    assert row(ledger, again, "generation") < row(ledger, newer, "generation")
    assert known.earlier(ledger.reader(), "lab", "t", version(size=2)) == newer


def test_start_over_of_what_has_ended_changes_nothing(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    (one,) = claim_all(ledger)
    end(ledger, tid)
    assert ledger.write(lambda db: endings.start_over(db, one, "judged by an old look")) is None
    assert row(ledger, tid) == ("in_kafka",)
    assert queued(ledger) == []


def test_changed_file_is_queued_with_the_end_of_its_older_version(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1), meta={"k": "v"}, uid=7)
    claim_all(ledger)
    newer = version(size=2)
    end(ledger, tid, "cancelled", forget=True, successor=newer, not_before=1.0)
    (waiting,) = queued(ledger)
    again = waiting
    assert row(ledger, tid, "state, successor") == ("cancelled", again.tid)
    assert (again.size, again.meta, again.uid, again.not_before) == (2, {"k": "v"}, 7, 1.0)
    assert again.generation > row(ledger, tid, "generation")[0]  # type: ignore[operator]
    assert known.earlier(ledger.reader(), "lab", "t", newer) == again.tid


def test_what_has_ended_gets_no_successor(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1))
    claim_all(ledger)
    end(ledger, tid)
    end(ledger, tid, "cancelled", forget=True, successor=version(size=2))
    assert queued(ledger) == []
    assert known.earlier(ledger.reader(), "lab", "t", version(size=1)) == tid


def test_postponed_transfer_is_not_due(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(size=1))
    (waiting,) = queued(ledger)
    newer = version(size=5 * CHUNK_SIZE, mtime_ns=77, inode=8)
    ledger.write(lambda db: endings.postpone(db, waiting, newer, CHUNK_SIZE, time.time() + 9))
    assert queued(ledger, SMALL) == queued(ledger, LARGE) == []
    columns = "state, size, mtime_ns, inode, lane"
    assert row(ledger, tid, columns) == ("queued", newer.size, 77, 8, LARGE)
    assert known.earlier(ledger.reader(), "lab", "t", newer) == tid


def test_clock_set_back_postpones_nothing(ledger: Ledger) -> None:
    accept_one(ledger, version())
    (waiting,) = queued(ledger)
    a_year_on = time.time() + 365 * 86400
    ledger.write(lambda db: endings.postpone(db, waiting, version(size=2), CHUNK_SIZE, a_year_on))
    assert [one.size for one in queued(ledger)] == [2]


def test_oldest_or_newest_first_of_one_lane(ledger: Ledger) -> None:
    for n in range(6):
        accept_one(ledger, version(b"%d" % n, size=1 if n % 2 else 2 * CHUNK_SIZE))
    paths = [one.path for one in queued(ledger, SMALL, limit=2)]
    assert paths == [b"1", b"3"]
    paths = [one.path for one in queued(ledger, LARGE, newest=True, limit=2)]
    assert paths == [b"4", b"2"]
    assert queued(ledger, topic="other") == queued(ledger, route="") == []


def test_destinations_are_those_with_work(ledger: Ledger) -> None:
    done = accept_one(ledger, version(), topic="done")
    end(ledger, done, "cancelled")
    accept_one(ledger, version(b"x"), route="", topic="u")
    claim_all(ledger)
    accept_one(ledger, version(b"y"))
    assert sorted(outgoing.destinations(ledger.reader())) == [("", "u"), ("lab", "t")]


def test_prune_takes_only_what_ended_long_ago(ledger: Ledger) -> None:
    ended = accept_one(ledger, version(b"ended"))
    end(ledger, ended, "cancelled")
    accept_one(ledger, version(b"sending"))
    claim_all(ledger)
    accept_one(ledger, version(b"queued"))
    assert ledger.write(lambda db: outgoing.prune(db, 1.0, 10)) == 0
    assert ledger.write(lambda db: outgoing.prune(db, 2**40, 0)) == 0
    assert ledger.write(lambda db: outgoing.prune(db, 2**40, 10)) == 1
    left = ledger.reader().execute("SELECT path FROM outgoing ORDER BY id").fetchall()
    assert left == [(b"sending",), (b"queued",)]
    assert accept(ledger, version(b"ended"))[0].already  # known as long as it is there
