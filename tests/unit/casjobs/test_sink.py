"""What comes into the table, and what becomes of what CasJobs refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kfd.daemon.catalogue.sink import Row, SinkError
from kfd.paths import escape
from tests.casjobs.server import RunningCasJobs, casjobs_server, lost, page, says, status
from tests.casjobs.tsql import Column, Kind, Table
from tests.unit.casjobs.rows import EVERY, ROW, Remembered, numbered, sink


@pytest.fixture
def casjobs() -> Iterator[RunningCasJobs]:
    with casjobs_server() as server:
        yield server


def names(casjobs: RunningCasJobs, table: str = "kfd_files") -> list[str]:
    return [row["name"] for row in casjobs.rows(table)]


OLD = {"FileName": "name", "FileSize": "size"}


def test_the_old_programs_table(casjobs: RunningCasJobs) -> None:
    assert sink(casjobs.settings(table="FileTable", columns=OLD)).write([ROW, numbered(7)]) == []
    assert casjobs.rows("FileTable") == [
        {"FileName": "run42.trc", "FileSize": 1234567},
        {"FileName": "run7.trc", "FileSize": 1234567},
    ]


def test_a_table_of_kfds_own_knows_rows_again(casjobs: RunningCasJobs) -> None:
    for _ in range(2):
        assert sink(casjobs.settings()).write([ROW]) == []
    row = {"FileName": "run42.trc", "FileSize": 1234567, "tid": ROW.tid}
    assert casjobs.rows("kfd_files") == [row]


def test_the_old_programs_table_wants_a_column(casjobs: RunningCasJobs) -> None:
    """Or to be told that it has none: then a file may have several rows."""
    casjobs.database.tables["FileTable"] = Table(
        [Column("FileName", Kind("NVARCHAR", 99)), Column("FileSize", Kind("BIGINT"))]
    )
    with pytest.raises(SinkError, match="table FileTable is there, without tid") as error:
        sink(casjobs.settings(table="FileTable")).write([ROW])
    alter = "ALTER TABLE [FileTable] ADD [tid] NVARCHAR(32) COLLATE Latin1_General_BIN2 NULL"
    assert f"run {alter} in CasJobs, or write" in error.value.fix
    assert "the columns: that it has" in error.value.fix


def test_every_field(casjobs: RunningCasJobs) -> None:
    columns = EVERY | {"sample": "meta.sample", "nothing": "meta.nothing"}
    sink(casjobs.settings(columns=columns)).write([ROW])
    assert casjobs.rows("kfd_files") == [
        {
            "tid": ROW.tid, "receiver": "archive1", "route": "archive", "name": "run42.trc",
            "path": "monday/run42.trc", "path_bytes": b"monday/run42.trc",
            "stored": "scope3/monday/run42.trc", "size": 1234567, "digest": ROW.digest,
            "origin": "scope3", "topic": "lecroy_files", "mtime": naive(ROW.mtime),
            "sent": naive(ROW.sent), "published": naive(ROW.published),
            "metadata": '{"sample": "B17"}', "sample": "B17", "nothing": None,
        }
    ]  # fmt: skip


def naive(time: datetime | None) -> datetime:
    assert time is not None
    return time.replace(tzinfo=None)


def test_what_is_not_known_of_any_row(casjobs: RunningCasJobs) -> None:
    empty = replace(ROW, mtime=None, sent=None, published=None, path_bytes=b"", metadata={})
    sink(casjobs.settings(columns=EVERY)).write([empty])
    assert casjobs.rows("kfd_files")[0]["published"] is None


def test_a_row_that_comes_again_is_there_once(casjobs: RunningCasJobs) -> None:
    for _ in range(2):
        assert sink(casjobs.settings(columns=EVERY)).write([ROW, numbered(7), ROW]) == []
    assert names(casjobs) == ["run42.trc", "run7.trc"]


def test_a_row_is_there_once_in_a_table_without_a_key(casjobs: RunningCasJobs) -> None:
    """As somebody else may have made it."""
    casjobs.database.tables["kfd_files"] = Table(
        [Column("name", Kind("NVARCHAR", 99)), Column("TID", Kind("NVARCHAR", 32))]
    )
    for _ in range(2):
        here = sink(casjobs.settings(columns={"tid": "tid", "name": "name"}))
        assert here.write([ROW, numbered(7), ROW]) == []
    assert names(casjobs) == ["run42.trc", "run7.trc"]


def test_receivers_of_one_transfer_have_a_row_each(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings(columns=EVERY))
    here.write([ROW, replace(ROW, receiver="archive2"), replace(ROW, receiver="ARCHIVE1")])
    assert len(casjobs.rows("kfd_files")) == 3


def test_an_answer_that_is_lost_is_not_written_twice(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings(columns=EVERY))
    here.write([ROW])
    casjobs.next(lost)
    with pytest.raises(SinkError, match="cut off"):
        here.write([numbered(7)])
    assert here.write([numbered(7)]) == []
    assert names(casjobs) == ["run42.trc", "run7.trc"]


hostile = st.binary(max_size=60) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(hostile, st.dictionaries(st.text(max_size=9), st.text(max_size=40)))))
def test_hostile_names_are_only_names(
    casjobs: RunningCasJobs, given: list[tuple[bytes, dict[str, str]]]
) -> None:
    rows = [
        numbered(
            number, path=escape(path), path_bytes=path, stored=path.decode("latin-1"), metadata=meta
        )
        for number, (path, meta) in enumerate(given)
    ]
    casjobs.database.tables.clear()
    casjobs.database.tables["other"] = Table([Column("x", Kind("BIGINT"))])
    assert sink(casjobs.settings(columns=EVERY)).write([*rows, ROW]) == []
    found = casjobs.rows("kfd_files")
    assert [row["path_bytes"] for row in found[:-1]] == [path for path, _ in given]
    assert [row["path"] for row in found[:-1]] == [escape(path) for path, _ in given]
    assert "other" in casjobs.database.tables


@pytest.mark.parametrize(
    "name",
    [
        "x'); DROP TABLE other; --",
        "a\nGO\nDROP TABLE other",
        "a--b",
        "/* x",
        "O'Brien's",
        "\\",
        "'",
    ],
)
def test_names_that_break_languages(casjobs: RunningCasJobs, name: str) -> None:
    casjobs.database.tables["other"] = Table([Column("x", Kind("BIGINT"))])
    sink(casjobs.settings(columns=EVERY)).write([replace(ROW, name=name), numbered(7)])
    assert names(casjobs) == [name.replace("\n", "\\x0a"), "run7.trc"]
    assert not casjobs.database.dropped


def test_many_rows_are_many_statements(casjobs: RunningCasJobs) -> None:
    rows = [numbered(number, stored="x" * 1500) for number in range(100)]
    sink(casjobs.settings(columns=EVERY)).write(rows)
    assert names(casjobs) == [row.name for row in rows]
    inserts = [sql for sql in casjobs.queries if sql.startswith("INSERT")]
    assert len(inserts) > 1
    assert max(map(len, inserts)) < 64 * 1024


def test_a_row_that_is_wrong_does_not_keep_the_others(casjobs: RunningCasJobs) -> None:
    """In a table that somebody else made, names may be short."""
    casjobs.database.tables["kfd_files"] = Table(
        [Column("FileName", Kind("NVARCHAR", 12)), Column("FileSize", Kind("BIGINT"))]
    )
    long = numbered(7, size=1)
    long = replace(long, name="a-very-long-name")
    rows: list[Row] = [numbered(n) for n in range(20)]
    refused = sink(casjobs.settings(columns=OLD)).write([*rows[:5], long, *rows[5:]])
    assert [(one.row, "truncated" in one.reason) for one in refused] == [(long, True)]
    assert [row["FileName"] for row in casjobs.rows("kfd_files")] == [row.name for row in rows]


def test_a_time_that_an_old_table_cannot_hold(casjobs: RunningCasJobs) -> None:
    """Any record on the wire can carry one."""
    casjobs.database.tables["kfd_files"] = Table(
        [Column("tid", Kind("NVARCHAR", 32)), Column("changed", Kind("DATETIME"))]
    )
    old = numbered(7, mtime=datetime(1700, 1, 1, tzinfo=UTC))
    here = sink(casjobs.settings(columns={"tid": "tid", "changed": "mtime"}))
    (refused,) = here.write([old])
    assert (refused.row, "out-of-range" in refused.reason) == (old, True)


def only_runs(casjobs: RunningCasJobs) -> None:
    """A table whose trigger lets no other names in."""
    table = Table([Column("tid", Kind("NVARCHAR", 32)), Column("name", Kind("NVARCHAR", 99))])
    table.trigger = lambda row: row["name"].startswith("run")
    casjobs.database.tables["kfd_files"] = table


def test_a_row_that_a_trigger_refuses_does_not_keep_the_others(casjobs: RunningCasJobs) -> None:
    only_runs(casjobs)
    bad = replace(numbered(99), name="bad.trc")
    rows = [numbered(n) for n in range(20)]
    here = sink(casjobs.settings(columns={"tid": "tid", "name": "name"}))
    (refused,) = here.write([*rows[:5], bad, *rows[5:]])
    assert (refused.row, "trigger" in refused.reason) == (bad, True)
    assert names(casjobs) == [row.name for row in rows]


def test_a_column_of_somebody_elses_refuses_no_row(casjobs: RunningCasJobs) -> None:
    """That no row has a value for it is no fault of a row."""
    owner = Column("owner", Kind("NVARCHAR", 99))
    owner.nullable = False
    casjobs.database.tables["kfd_files"] = Table(
        [Column("tid", Kind("NVARCHAR", 32)), Column("name", Kind("NVARCHAR", 99)), owner]
    )
    here = sink(casjobs.settings(columns={"tid": "tid", "name": "name"}))
    with pytest.raises(SinkError, match="Cannot insert the value NULL into column 'owner'"):
        here.write([numbered(n) for n in range(50)])


def test_a_table_that_takes_nothing_refuses_no_row(casjobs: RunningCasJobs) -> None:
    only_runs(casjobs)
    here = sink(casjobs.settings(columns={"tid": "tid", "name": "name"}))
    with pytest.raises(SinkError, match="ended in the trigger"):
        here.write([replace(numbered(n), name="bad.trc") for n in range(100)])


def test_no_space_is_no_fault_of_rows(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings(columns=EVERY))
    here.write([ROW])
    casjobs.next(says("Could not allocate space for object 'dbo.kfd_files' in database 'MyDB'."))
    with pytest.raises(SinkError, match="Could not allocate space"):
        here.write([numbered(n) for n in range(4)])


def test_a_statement_that_is_too_large_is_halved(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings(columns=EVERY))
    here.write([ROW])
    casjobs.next(status(413), status(413))
    assert here.write([numbered(n) for n in range(8)]) == []
    assert len(casjobs.rows("kfd_files")) == 9


def test_a_table_with_other_columns_is_told_of(casjobs: RunningCasJobs) -> None:
    casjobs.database.tables["kfd_files"] = Table([Column("filename", Kind("NVARCHAR", 12))])
    with pytest.raises(SinkError, match="without FileSize") as error:
        sink(casjobs.settings()).write([ROW])
    assert "recreate" in error.value.fix
    assert error.value.retry


def test_a_table_that_is_dropped_meanwhile_is_made_again(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    casjobs.database.tables.clear()
    with pytest.raises(SinkError, match="isn't what it was: Invalid object name"):
        here.write([numbered(7)])
    here.write([numbered(7)])
    assert [row["FileName"] for row in casjobs.rows("kfd_files")] == ["run7.trc"]


def test_two_that_make_the_table_at_once(casjobs: RunningCasJobs) -> None:
    one = sink(casjobs.settings(columns=EVERY))
    casjobs.next(status(200, b'{"Result": []}'))  # it sees none yet, and then the other one's comes
    casjobs.database.tables["kfd_files"] = Table([Column("tid", Kind("NVARCHAR", 32))])
    with pytest.raises(SinkError, match="already an object named"):
        one.write([ROW])


def test_another_schema(casjobs: RunningCasJobs) -> None:
    sink(casjobs.settings(table="dbo.mine")).write([ROW])
    sink(casjobs.settings(table="mine")).write([numbered(7)])
    assert len(casjobs.rows("mine")) == 2


# recreate


def test_recreate_drops_it_once(casjobs: RunningCasJobs) -> None:
    memory = Remembered()
    sink(casjobs.settings()).write([ROW])
    for number in range(3):  # three lives of the daemon
        sink(casjobs.settings(recreate=True), memory=memory).write([numbered(number)])
    assert casjobs.database.dropped == ["kfd_files"]
    assert [row["FileName"] for row in casjobs.rows("kfd_files")] == [
        "run0.trc",
        "run1.trc",
        "run2.trc",
    ]


def test_recreate_where_there_is_no_table(casjobs: RunningCasJobs) -> None:
    sink(casjobs.settings(recreate=True)).write([ROW])
    assert casjobs.database.dropped == []
    assert len(casjobs.rows("kfd_files")) == 1


def test_recreate_again_when_it_was_switched_off_and_on(casjobs: RunningCasJobs) -> None:
    memory = Remembered()
    for recreate in (True, False, True):
        sink(casjobs.settings(recreate=recreate), memory=memory).write([ROW])
    assert casjobs.database.dropped == ["kfd_files"]
    assert len(memory.written) == 3


def test_recreate_when_the_columns_change(casjobs: RunningCasJobs) -> None:
    memory = Remembered()
    sink(casjobs.settings(recreate=True), memory=memory).write([ROW])
    sink(casjobs.settings(recreate=True, columns=EVERY), memory=memory).write([ROW])
    assert names(casjobs) == ["run42.trc"]


def test_recreate_that_is_interrupted_is_done_again(casjobs: RunningCasJobs) -> None:
    """Nothing was written between the table and the note of it."""

    class Dies(Remembered):
        def remember(self, text: str) -> None:
            raise SystemExit

    sink(casjobs.settings()).write([ROW])
    with pytest.raises(SystemExit):
        sink(casjobs.settings(recreate=True), memory=Dies()).write([numbered(7)])
    sink(casjobs.settings(recreate=True), memory=Remembered()).write([numbered(7)])
    assert [row["FileName"] for row in casjobs.rows("kfd_files")] == ["run7.trc"]


# what CasJobs says


@pytest.mark.parametrize(
    "said",
    [
        "Timeout expired.  The timeout period elapsed prior to completion of the operation.",
        "Could not find prepared statement with handle -1.",
        "Transaction was deadlocked on lock resources and has been chosen as the deadlock victim.",
    ],
)
def test_what_passes_is_tried_again(casjobs: RunningCasJobs, said: str) -> None:
    here = sink(casjobs.settings(columns=EVERY))
    here.write([ROW])
    casjobs.next(says(said))
    with pytest.raises(SinkError, match=said[:15]) as error:
        here.write([numbered(7)])
    assert error.value.retry
    here.write([numbered(7)])
    assert names(casjobs) == ["run42.trc", "run7.trc"]


@pytest.mark.parametrize("code", [400, 429, 500, 502, 503, 504])
def test_statuses_are_told(casjobs: RunningCasJobs, code: int) -> None:
    casjobs.next(status(code, b"out of order\r\n   at Some.Where()"))
    with pytest.raises(SinkError, match=f"HTTP {code}: out of order$") as error:
        sink(casjobs.settings()).write([ROW])
    assert error.value.where == f"{casjobs.url}/CasJobs/RestApi/contexts/MyDB/query"
    assert error.value.fix


def test_a_page_is_no_answer(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    casjobs.next(page)
    with pytest.raises(SinkError, match="isn't CasJobs' JSON"):
        here.write([numbered(7)])


def test_a_context_that_is_not_ones_own(casjobs: RunningCasJobs) -> None:
    casjobs.forbidden.add("MyDB")
    with pytest.raises(SinkError, match="no right to use the context MyDB"):
        sink(casjobs.settings()).write([ROW])
    with pytest.raises(SinkError, match="no context a/b"):
        sink(casjobs.settings(context="a/b")).write([ROW])
