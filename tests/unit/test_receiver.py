"""The receiver: records in, files and safe offsets out, whatever comes and in whatever order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import Ledger, dropped, queries
from kfd.daemon.publishing.partials import DiskError
from kfd.wire import FLAG_ABORT, HEADER_NAME, Header, encode_header
from tests.parts import (
    GENERATION,
    ROUTE,
    TOPIC_ID,
    Receiving,
    Sent,
    fill,
    mounted,
    receiving,
    record,
    running_ledger,
)
from tests.privileges import unprivileged


def bad(parts: Receiving) -> dict[str, int]:
    return dropped.bad_counts(parts.ledger.reader(), ROUTE)


def states(parts: Receiving) -> dict[bytes, str]:
    return dict(parts.ledger.reader().execute("SELECT tid, state FROM incoming").fetchall())


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 9])
def test_file_of_any_size_is_published_whole(parts: Receiving, size: int) -> None:
    sent = Sent(bytes(range(size)))
    records = sent.records(offset=7)
    for one in records[:-1]:
        parts.receiver.receive([one])
        assert parts.visible() == {}
        assert parts.receiver.safe_offsets()[0] == 7
    parts.receiver.receive(records[-1:])
    assert parts.visible() == {b"run.trc": sent.content}
    assert parts.receiver.safe_offsets()[0] == 7 + len(records)
    assert parts.parts() == []
    assert states(parts) == {sent.tid: "published"}


def test_many_files_of_many_partitions_in_one_batch(parts: Receiving) -> None:
    sent = [Sent(b"%d" % n * n, b"d/%d" % n) for n in range(12)]
    batch = []
    offsets = [0, 0, 0]
    for n, one in enumerate(sent):
        records = one.records(n % 3, offsets[n % 3])
        offsets[n % 3] += len(records)
        batch += records
    parts.receiver.receive(batch)
    assert parts.visible() == {one.path: one.content for one in sent}
    assert parts.receiver.safe_offsets() == dict(enumerate(offsets))


def test_interleaved_transfers_hold_the_offset_of_the_oldest(parts: Receiving) -> None:
    old, new = Sent(b"old old old", b"old"), Sent(b"new new", b"new")
    first, second = old.records(offset=10), new.records(offset=11)
    rest = [record_at(one, 13 + n) for n, one in enumerate([second[1], *first[1:]])]
    parts.receiver.receive([first[0], second[0]])
    assert {one.tid for one in parts.receiver.open_transfers()} == {old.tid, new.tid}
    assert parts.receiver.safe_offsets()[0] == 10
    parts.receiver.receive([rest[0]])
    assert parts.visible() == {b"new": new.content}
    assert parts.receiver.safe_offsets()[0] == 10
    parts.receiver.receive(rest[1:])
    assert parts.visible() == {b"new": new.content, b"old": old.content}
    assert parts.receiver.safe_offsets()[0] == 16


def record_at(one: Record, offset: int) -> Record:
    return Record(one.partition, offset, one.headers, one.value)


def test_duplicates_are_counted_and_change_nothing(parts: Receiving) -> None:
    sent = Sent(b"abcdefghij")
    first, second, third = sent.records()
    repeats = [first, first, second, first, second, third, third, first]
    parts.receiver.receive([record_at(one, n) for n, one in enumerate(repeats)])
    assert parts.visible() == {b"run.trc": sent.content}
    assert bad(parts) == {"duplicate": 5}
    later = [record_at(one, 8 + n) for n, one in enumerate(sent.records())]
    parts.receiver.receive(later)  # its end is only in the ledger now
    assert bad(parts)["duplicate"] == 8
    assert parts.visible() == {b"run.trc": sent.content}
    assert parts.receiver.safe_offsets()[0] == 11


def test_orphans_gaps_and_foreign_records_are_counted(parts: Receiving) -> None:
    sent = Sent(b"abcdefghij")
    first, second, third = sent.records()
    parts.receiver.receive([record_at(second, 0), record_at(first, 1), record_at(third, 2)])
    strange = [Record(0, 3, None, b"x"), Record(0, 4, [("kfd", b"\xc1")], b"x")]
    tombstone = Record(0, 5, first.headers, None)
    parts.receiver.receive([*strange, tombstone])
    assert bad(parts) == {"orphan": 1, "gap": 1, "foreign": 1, "malformed": 2}
    assert parts.receiver.safe_offsets()[0] == 1
    parts.receiver.receive([record_at(second, 6), record_at(third, 7)])
    assert parts.visible() == {b"run.trc": sent.content}


def test_bad_counts_say_where_the_last_one_was(parts: Receiving) -> None:
    parts.receiver.receive([Record(1, offset, None, b"x") for offset in range(5)])
    parts.receiver.receive([Record(2, 9, None, b"x")])
    row = parts.ledger.reader().execute(
        "SELECT count, partition, offset FROM bad_record WHERE reason = 'foreign'"
    )
    assert row.fetchall() == [(6, 2, 9)]
    assert parts.receiver.positions() == {0: 0, 1: 5, 2: 10}


@pytest.mark.parametrize("generation", [0, GENERATION + 10**15, 2**63 - 1])
def test_any_generation_is_taken(parts: Receiving, generation: int) -> None:
    """Each origin has a clock of its own, and so has this host: none is asked."""
    parts.receiver.receive(Sent(b"x", generation=generation).records())
    assert parts.visible() == {b"run.trc": b"x"}
    parts.receiver.receive(Sent(b"y", generation=max(0, generation - 1)).records(offset=1))
    assert parts.visible() == {b"run.trc": b"x"}
    assert bad(parts) == {}


def test_aborted_transfer_leaves_nothing(parts: Receiving) -> None:
    sent = Sent(b"abcdefgh")
    parts.receiver.receive([sent.records()[0]])
    assert len(parts.parts()) == 1
    parts.receiver.receive([sent.abort(offset=1), sent.records(offset=1)[1]])
    assert parts.parts() == []
    assert parts.visible() == {}
    assert parts.receiver.safe_offsets()[0] == 3
    assert bad(parts) == {"orphan": 1}


def test_abort_of_an_unknown_transfer_is_dropped(parts: Receiving) -> None:
    header = encode_header(Header(bytes(16), 3, FLAG_ABORT))
    parts.receiver.receive([Record(0, 0, [(HEADER_NAME, header)], b"")])
    assert parts.receiver.safe_offsets()[0] == 1


def test_digest_mismatch_is_quarantined_and_never_visible(parts: Receiving) -> None:
    sent = Sent(b"abcdefgh", digest=bytes(32))
    parts.receiver.receive(sent.records())
    assert parts.visible() == {}
    assert parts.parts() == []
    assert states(parts) == {sent.tid: "quarantined"}
    assert bad(parts) == {"digest-mismatch": 1}
    assert parts.receiver.safe_offsets()[0] == 2


@pytest.mark.parametrize("content", [b"abc", b"abcdefgh"])
def test_digest_mismatch_repeated_in_one_batch_crashes_nothing(
    parts: Receiving, content: bytes
) -> None:
    sent = Sent(content, digest=bytes(32))
    records = sent.records()
    again = [record_at(one, len(records) + n) for n, one in enumerate(records)]
    parts.receiver.receive([*records, *again])
    assert states(parts) == {sent.tid: "quarantined"}
    assert parts.parts() == []
    assert parts.receiver.safe_offsets()[0] == 2 * len(records)


@pytest.mark.parametrize("other", [b"run.trc", b"other"])
def test_same_tid_complete_in_two_partitions_crashes_nothing(
    parts: Receiving, other: bytes
) -> None:
    one = Sent(b"abc")
    copy = Sent(b"xyz", other, one.tid)
    parts.receiver.receive([*one.records(0), *copy.records(1)])
    assert parts.visible()[b"run.trc"] in (b"abc", b"xyz")
    assert parts.receiver.safe_offsets() == {0: 1, 1: 1, 2: 0}


def test_same_tid_in_another_partition_spoils_no_file(parts: Receiving) -> None:
    one = Sent(b"abcdefgh")
    thief = Sent(b"XXXXYYYY", b"other", one.tid)
    first, second = one.records(0)
    bad_first, _ = thief.records(1)
    parts.receiver.receive([first, bad_first])
    parts.receiver.receive([second])
    assert parts.visible() == {b"run.trc": one.content}


def test_same_tid_in_another_thread_spoils_no_file(parts: Receiving) -> None:
    one = Sent(b"abcdefgh")
    thief = Sent(b"XXXXYYYY", b"other", one.tid)
    other_thread = parts.another_thread()
    first, second = one.records(0)
    bad_first, _ = thief.records(1)
    parts.receiver.receive([first])
    other_thread.receive([bad_first])
    parts.receiver.receive([second])
    other_thread.drop([1])
    assert parts.visible() == {b"run.trc": one.content}


def test_dropped_partition_leaves_no_partials(parts: Receiving) -> None:
    for partition in (0, 1):
        parts.receiver.receive([Sent(b"abcdefgh", b"%d" % partition).records(partition)[0]])
    parts.receiver.drop([0, 7])
    assert len(parts.parts()) == 1
    assert set(parts.receiver.positions()) == {1, 2}
    parts.receiver.take(0, TOPIC_ID, 0)
    sent = Sent(b"abcdefgh", b"0")
    parts.receiver.receive(sent.records(0))
    assert parts.visible() == {b"0": sent.content}


def test_lost_partition_is_not_published_from(parts: Receiving) -> None:
    sent = Sent(b"abcdefgh")
    parts.assigned.discard(0)
    parts.receiver.receive(sent.records())
    assert parts.visible() == {}
    assert states(parts) == {}
    assert parts.receiver.safe_offsets()[0] == 0
    parts.receiver.drop([0])
    assert parts.parts() == []


@pytest.fixture
def small_disk(tmp_path: Path, ledger: Ledger) -> Iterator[Receiving]:
    """A route's directory on a file system of 256 KiB."""
    with (
        mounted(tmp_path / "disk", "tmpfs", "size=256k,mode=755"),
        receiving(ledger, tmp_path / "disk" / "data") as parts,
    ):
        yield parts


def test_full_disk_skips_nothing_of_any_partition(small_disk: Receiving) -> None:
    """The first record of a batch meets a full disk: those after it weren't looked at."""
    parts = small_disk
    filler = fill(parts.root.parent)
    sent = [Sent(b"%d" % n, b"%d" % n) for n in range(3)]
    batch = [one for n, file in enumerate(sent) for one in file.records(n, 5)]
    parts.receiver.receive(batch)
    assert all(offset <= 5 for offset in parts.receiver.safe_offsets().values())
    parts.receiver.try_deferred()
    assert parts.receiver.take_rewinds() == {}
    filler.unlink()
    parts.receiver.try_deferred()
    assert parts.receiver.take_rewinds() == {0: 5, 1: 5, 2: 5}
    parts.receiver.receive(batch)
    assert parts.receiver.safe_offsets() == {0: 6, 1: 6, 2: 6}
    assert parts.visible() == {one.path: one.content for one in sent}


def test_disk_that_refuses_even_removal_loses_no_partition(parts: Receiving) -> None:
    sent = [Sent(b"abcdefgh", b"%d" % n) for n in range(3)]
    firsts = [one.records(n)[0] for n, one in enumerate(sent)]
    parts.receiver.receive(firsts)
    private = parts.root / ".kfd"
    private.chmod(0)
    new = Sent(b"x", b"new")
    with unprivileged():
        with pytest.raises(DiskError, match="Permission denied"):
            parts.receiver.receive(new.records(0, 1))
        for _ in range(2):
            with pytest.raises(DiskError, match="Permission denied"):
                parts.receiver.resume()
    private.chmod(0o700)
    parts.receiver.resume()
    assert parts.receiver.positions() == {0: 2, 1: 1, 2: 1}
    lasts = [record_at(one.records(n)[1], 2) for n, one in enumerate(sent)]
    parts.receiver.receive(lasts)
    assert parts.visible() == {one.path: one.content for one in [*sent, new]}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_order_and_any_interruption_publishes_each_file_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Interleaved, repeated, cut into batches, started over from the safe offset: all arrive."""
    sizes = data.draw(st.lists(st.integers(0, 13), min_size=1, max_size=5))
    files = [Sent(os.urandom(size), b"%d" % n) for n, size in enumerate(sizes)]
    queues = [file.records() for file in files]
    log: list[Record] = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        one = queue.pop(0)
        for _ in range(data.draw(st.integers(1, 2))):
            log.append(record_at(one, len(log)))
    directory = tmp_path_factory.mktemp("any")
    with (
        running_ledger(directory / "state") as ledger,
        receiving(ledger, directory / "data") as parts,
    ):
        at = 0
        for _ in range(20):
            count = data.draw(st.integers(1, 6))
            parts.receiver.receive(log[at : at + count])
            at = parts.receiver.positions()[0] if log[at : at + count] else at
            if data.draw(st.booleans()) and at < len(log):
                at = parts.receiver.safe_offsets()[0]
                parts.receiver.drop([0])
                parts.receiver.take(0, TOPIC_ID, at)
        parts.receiver.receive(log[at:])
        assert parts.visible() == {file.path: file.content for file in files}
        assert set(states(parts).values()) == {"published"}
        assert parts.receiver.safe_offsets()[0] == len(log)
        published = [one for one in queries.tallies(ledger.reader()) if one.state == "published"]
        assert published[0].count == len(files)


def test_newest_of_two_versions_in_one_batch_wins(parts: Receiving) -> None:
    old = Sent(b"old")
    new = Sent(b"new", generation=GENERATION + 1)
    parts.receiver.receive([*old.records(), *new.records(offset=1)])
    assert parts.visible() == {b"run.trc": b"new"}
    late = Sent(b"late", generation=GENERATION)
    parts.receiver.receive(late.records(offset=2))
    assert parts.visible() == {b"run.trc": b"new"}
    assert states(parts) == {
        old.tid: "published", new.tid: "published", late.tid: "superseded"
    }  # fmt: skip


def test_records_that_no_version_of_the_format_has(parts: Receiving) -> None:
    sealed = Record(
        0, 0, [(HEADER_NAME, b"\x96\x01\xc4\x10" + bytes(16) + b"\x00\x01\xc0\xc0")], b""
    )
    other = record(0, 1, Header(bytes(16), 1), b"x")
    parts.receiver.receive([sealed, other])
    assert bad(parts) == {"sealed": 1, "orphan": 1}
