"""The frame of the fault tests: what runs how often, and an oracle that sees every breach."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.arrivals import Arrivals
from tests.faults.crashpoints import crash_points
from tests.faults.frame import Fault, Figures, Record, Selection, catalogue
from tests.faults.judge import Judge
from tests.integration.host import Host
from tests.support import eventually

KILLS = Fault(number=1, name="kills", rounds=100, short=3)
SOAK = Fault(number=21, name="soak", rounds=10, short=0, minutes=True)


@pytest.mark.parametrize(
    ("selection", "kills", "soak"),
    [
        (Selection(), 3, 0),
        (Selection(whole=True), 100, 10),
        (Selection(given_rounds=7), 7, 0),
        (Selection(whole=True, given_rounds=7), 7, 7),
        (Selection(whole=True, only=("kills",)), 100, 0),
        (Selection(only=("21",), given_rounds=2), 0, 2),
    ],
)
def test_rounds_of_a_selection(selection: Selection, kills: int, soak: int) -> None:
    assert (selection.rounds(KILLS), selection.rounds(SOAK)) == (kills, soak)


def test_seed_is_a_tests_own_and_the_same_in_every_run() -> None:
    first, second = Selection(seed=1), Selection(seed=2)
    assert first.seed_of("a") == Selection(seed=1).seed_of("a")
    assert len({first.seed_of("a"), first.seed_of("b"), second.seed_of("a")}) == 3


def test_command_that_repeats_a_fault() -> None:
    again = Selection(whole=True, full=True, seed=5).again(KILLS)
    assert again == "sh scripts/faults --only kills --rounds 100 --seed 5 --full"


def measured(fault: Fault) -> Figures:
    """What a test of it measured: nothing yet."""
    return Figures(fault.number, fault.name)


def test_table_of_what_was_seen(tmp_path: Path) -> None:
    soak, kills = measured(SOAK), measured(KILLS)
    soak.skip("no root")
    kills.rounds = 50
    kills.add("kills", 60)
    for seconds in (1.0, 0.5, 2.25):
        kills.sample("seconds to go on", seconds)
    kills.note("as it should be")
    record = Record()
    for one in (soak, kills, kills):
        record.add(json.loads(json.dumps(one.as_json())))
    assert record.table().splitlines()[2:] == [
        "| 1 | kills | 100 | 120 kills; seconds to go on 1, at most 2.2; as it should be | yes |",
        "| 21 | soak | 0 | skipped: no root | - |",
    ]
    soak.held = False
    record.add(soak.as_json())
    record.add(measured(SOAK).as_json())
    assert record.table().endswith("| **no** |")
    record.save(tmp_path / "figures", {"seed": 1})
    assert '"seconds to go on": [' in (tmp_path / "figures").read_text()


def test_catalogue_names_each_fault_with_its_tests() -> None:
    lines = catalogue([(SOAK, "test_soak"), (KILLS, "test_a"), (KILLS, "test_a")]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["1", "kills", "100", "3", "test_a"],
        ["21", "soak", "10", "0", "test_soak"],
    ]


def test_crash_points_are_found_in_the_source(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('def f():\n    reach("one.b")\n    reach("one.a")\n')
    assert crash_points(tmp_path) == ["one.a", "one.b"]
    (tmp_path / "two.py").write_text('reach("one.a")\n')
    with pytest.raises(ValueError, match=r"one\.a is the name of two crash points"):
        crash_points(tmp_path)
    (tmp_path / "two.py").write_text("reach(name)\n")
    with pytest.raises(ValueError, match="is to be a literal"):
        crash_points(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host that doesn't run, with a ledger in which nothing is."""
    with Host(tmp_path / "host", "127.0.0.1:1", "topic") as made:
        made.state.mkdir()
        note(made, "CREATE TABLE outgoing (tid, state)")
        note(made, "CREATE TABLE incoming (tid, state)")
        note(made, "CREATE TABLE bad_record (reason, count)")
        yield made


def note(host: Host, statement: str, *values: object) -> None:
    """Change its ledger."""
    with closing(sqlite3.connect(host.state / "ledger.db")) as ledger, ledger:
        ledger.execute(statement, values)


def publish(host: Host, path: str, content: bytes, tid: bytes = b"t" * 16) -> None:
    """Put a file where it is received, as kfd does it."""
    part = host.down / ".kfd" / "part"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(content)
    os.setxattr(part, "user.kfd.transfer", bytes(25) + tid + bytes(16))
    final = host.down / path
    final.parent.mkdir(parents=True, exist_ok=True)
    part.rename(final)
    note(host, "INSERT OR IGNORE INTO incoming VALUES (?, 'published')", tid)


@pytest.fixture
def judge(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    """One that watches the host, and waits no longer than it must."""
    monkeypatch.setattr("tests.faults.judge.NOTED_SECONDS", 0.0)
    with Judge([host], [host]) as watching:
        yield watching


def test_what_is_right_holds(host: Host, judge: Judge) -> None:
    host.put("a/file", b"content")
    publish(host, "a/file", b"content")
    note(host, "INSERT INTO outgoing VALUES (?, 'in_kafka')", b"t" * 16)
    verdict = judge.holds(1)
    assert (verdict.files, verdict.versions, verdict.arrivals) == (1, 1, 1)


def test_missing_and_old_versions_are_seen(host: Host, judge: Judge) -> None:
    host.put("file", b"old")
    publish(host, "file", b"old")
    host.put("file", b"new")
    host.put("other", b"content")
    with pytest.raises(AssertionError, match=r"2 not within .*\n.*file.*\n.*other"):
        judge.holds(0)


def test_part_of_a_file_is_seen_though_it_is_replaced_at_once(host: Host, judge: Judge) -> None:
    host.put("file", b"content")
    publish(host, "file", b"cont")
    eventually(lambda: judge.arrivals[0].seen)
    publish(host, "file", b"content")
    with pytest.raises(AssertionError, match="neither a whole version nor an expected name"):
        judge.holds(1)


def test_partial_name_is_seen(host: Host, judge: Judge) -> None:
    host.put("file", b"content")
    publish(host, "file.part", b"content")
    publish(host, "file", b"content")
    with pytest.raises(AssertionError, match=r"expected name: b'file\.part'"):
        judge.holds(1)


def test_writing_under_a_final_name_is_seen(host: Host, judge: Judge) -> None:
    host.put("file", b"content")
    publish(host, "file", b"content")
    with (host.down / "file").open("r+b") as file:
        file.write(b"content")
    with pytest.raises(AssertionError, match="written under its final name"):
        judge.holds(1)


@pytest.mark.parametrize("tid", [b"t" * 16, b"u" * 16], ids=["same transfer", "same version"])
def test_what_is_published_again_is_seen(host: Host, judge: Judge, tid: bytes) -> None:
    host.put("file", b"content")
    publish(host, "file", b"content")
    eventually(lambda: judge.arrivals[0].seen)
    publish(host, "file", b"content", tid)
    with pytest.raises(AssertionError, match=r"published again|the same version came twice"):
        judge.holds(1)


def test_what_was_only_said_to_be_there_is_seen(host: Host, judge: Judge) -> None:
    note(host, "INSERT INTO outgoing VALUES (?, 'in_kafka')", b"t" * 16)
    with pytest.raises(AssertionError, match="said to be there, and isn't"):
        judge.holds(1)


def test_records_that_were_not_counted_or_should_not_be_are_seen(host: Host, judge: Judge) -> None:
    note(host, "INSERT INTO bad_record VALUES ('duplicate', 7), ('foreign', 2)")
    judge.holds(1, bad={"foreign": (1, 2)})
    with pytest.raises(AssertionError, match=r"'foreign': \(2, \(0, 0\)\)"):
        judge.holds(1)
    with pytest.raises(AssertionError, match=r"'orphan': \(0, \(1, 1\)\)"):
        judge.holds(1, bad={"foreign": (2, 2), "orphan": (1, 1)})


def test_one_arrival_is_counted_once_whatever_tells_of_it(tmp_path: Path) -> None:
    """The scan of a new directory and the event of a name in it may both tell of a file."""
    watched, aside = tmp_path / "watched", tmp_path / "aside"
    watched.mkdir()
    with Arrivals(watched) as arrivals:
        for number in range(50):
            directory = watched / f"{number}" / "deep"
            directory.mkdir(parents=True)
            aside.write_bytes(b"content")
            aside.rename(directory / "file")
        arrivals.catch_up()
    assert sorted(one.path for one in arrivals.seen) == sorted(
        b"%d/deep/file" % number for number in range(50)
    )
    assert arrivals.wrong == []
