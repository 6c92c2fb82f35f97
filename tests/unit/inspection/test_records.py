"""What a record is, which are wanted, what is counted, what is shown."""

from __future__ import annotations

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd import receipts
from kfd.ctl.recordlines import lines
from kfd.inspection.choice import Choice
from kfd.inspection.description import describe
from kfd.inspection.record import Kind, Recognizer, Record
from kfd.inspection.totals import Counting, PartitionTotal, Totals
from kfd.marshal import to_json
from tests.unit.inspection.records import (
    TOPIC,
    TOPIC_ID,
    kfd_records,
    looked,
    peer_records,
    record,
    upload_of,
)

HOSTILE = b"a\x1b[31m\n\xe2\x80\xaeb\xff\x9b2J"


def test_each_is_told_apart() -> None:
    mixed = [
        *kfd_records(b"123456789"),
        *peer_records(b"123456789"),
        record(b"hello"),
        record(None),
    ]
    kinds = [look.kind for _, look in looked(mixed)]
    assert kinds == [Kind.KFD] * 3 + [Kind.OPENMSISTREAM] * 3 + [Kind.FOREIGN] * 2


def test_all_chunks_of_a_peers_file_have_one_tid() -> None:
    one, other = peer_records(b"123456789"), peer_records(b"123456789", b"other.trc")
    tids = [{look.tid for _, look in looked(some)} for some in (one, other)]
    assert [len(some) for some in tids] == [1, 1]
    assert tids[0] != tids[1]


def test_a_peers_file_has_the_id_that_is_asked_for() -> None:
    """If it is one that a receiver gives to an upload of it: the same file may come again."""
    mine, other = peer_records(b"123456789"), peer_records(b"1234", b"other.trc")
    for number in (0, 1, 9):
        asked = upload_of(mine[0], number)
        recognizer = Recognizer(TOPIC, TOPIC_ID, [asked[-8:].upper(), "0" * 8])
        found = [look for _, look in looked([*mine, *other], recognizer)]
        assert {look.tid.hex() for look in found[:3] if look.tid} == {asked}
        assert [Choice(tids=[asked]).takes(look) for look in found] == [True] * 3 + [False]
        assert found[3].tid == next(looked(other))[1].tid


BROKEN = [
    record(b"x", [("kfd", b"junk")]),
    record(b"x", [("kfd", b""), ("kfd", b"")]),
    record(None, [("kfd", msgpack.packb([1, bytes(16), 1, 0, None, None]))]),
    record(b"x", [("kfd", msgpack.packb([1, bytes(16), 1, 2, None, None]))]),
    record(b"x", [("kfd", msgpack.packb([2, bytes(16), 1, 0, None, None]))]),
    record(b"12345", kfd_records(b"1234")[0].headers),
    record((peer_records(b"1234")[0].value or b"")[:-3]),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_breaks_its_format_is_bad(broken: Record) -> None:
    ((_, look),) = looked([broken])
    assert look.kind is Kind.BAD
    assert look.reason


def test_receipts_are_known_on_their_topic_only() -> None:
    (value,) = receipts.encode(
        "lab2", bytes(16), [receipts.Receipt(b"\7" * 16, receipts.Outcome.PUBLISHED)]
    )
    one = record(value)
    look = Recognizer(f"{TOPIC}.receipts", "id").look(one)
    assert look.kind is Kind.RECEIPTS
    assert next(looked([one]))[1].kind is Kind.FOREIGN
    assert "from lab2: 07070707 published" in lines(describe(one, look), None)[0]
    assert Choice(tids=["07070707"]).takes(look)
    assert not Choice(tids=["07070708"]).takes(look)


@given(st.binary(max_size=80), st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=40))))
def test_nothing_raises_and_nothing_raw_is_shown(
    value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    one = record(value, headers, key=value)
    ((_, look),) = looked([one])
    shown = describe(one, look)
    assert all(line.isprintable() for line in lines(shown, 40))
    text = json.dumps(to_json(shown), ensure_ascii=False)
    assert text.isprintable()
    assert text.encode()


def test_hostile_names_are_escaped() -> None:
    (one,) = kfd_records(b"x", HOSTILE, begin={"meta": {"\x1b[2J": "\u202e"}})
    ((_, look),) = looked([one])
    shown = describe(one, look)
    assert shown.begin is not None
    assert "\\x1b[31m\\x0a" in shown.begin.path
    assert shown.begin.path_base64 is not None
    assert lines(shown, None)[0].isprintable()


def wanted(choice: Choice, records: list[Record]) -> list[int]:
    return [at for at, (_, look) in enumerate(looked(records)) if choice.takes(look)]


def test_a_path_chooses_all_records_of_its_transfers() -> None:
    one, other = kfd_records(b"123456789", b"run/a.trc"), kfd_records(b"123456789", b"b.dat")
    woven = [record for both in zip(one, other, strict=True) for record in both]
    peer = peer_records(b"123456789", b"run/c.trc")
    assert wanted(Choice(paths=["run/*"]), [*woven, *peer]) == [0, 2, 4, 6, 7, 8]
    assert wanted(Choice(paths=["*.dat"]), [*woven, *peer]) == [1, 3, 5]
    assert wanted(Choice(origins=["elsewhere"], paths=["*.dat"]), [*woven, *peer]) == [1, 3, 5]
    assert wanted(Choice(origins=["nobody"]), [*woven, *peer]) == []
    assert wanted(Choice(origins=["openmsistream"]), [*woven, *peer]) == [6, 7, 8]
    assert wanted(Choice(origins=["openmsistream"], paths=["b*"]), [*woven, *peer]) == []
    assert wanted(Choice(kinds=[Kind.OPENMSISTREAM]), [*woven, *peer]) == [6, 7, 8]
    assert wanted(Choice(), [*woven, *peer]) == list(range(9))


def test_a_path_is_bytes() -> None:
    assert wanted(Choice(paths=["*\udcff*"]), [*kfd_records(b"1", HOSTILE)]) == [0]


def test_totals() -> None:
    aborted = record(b"", [("kfd", msgpack.packb([1, b"\1" * 16, 3, 2, None, None]))])
    records = [*kfd_records(b"123456789"), aborted, *peer_records(b"12345678"), record(b"??")]
    records.append(BROKEN[0])
    numbers = sorted({one.partition for one in records})
    counting = Counting(
        Totals(TOPIC, partitions=[PartitionTotal(number, 0, 9, 0) for number in numbers])
    )
    for one, look in looked(records):
        counting.add(one, look)
    totals = counting.totals
    kinds = {one.kind: (one.records, one.begins, one.ends, one.aborts) for one in totals.kinds}
    assert kinds == {
        Kind.KFD: (4, 1, 1, 1),
        Kind.OPENMSISTREAM: (2, 1, 1, 0),
        Kind.RECEIPTS: (0, 0, 0, 0),
        Kind.BAD: (1, 0, 0, 0),
        Kind.FOREIGN: (1, 0, 0, 0),
    }
    assert totals.records == sum(one.records for one in totals.partitions) == len(records)
    assert totals.size == sum(one.size for one in totals.partitions)
    assert sum(totals.bad.values()) == 1
