"""Rows in SQLite by SQLAlchemy: written once, whatever their names, whoever has made the table."""

from __future__ import annotations

import os
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kfd.config.catalogues import SqlCatalogue
from kfd.daemon.catalogue.sink import SinkError
from kfd.daemon.catalogue.sql import SqlSink
from tests.unit.catalogue.rows import configured, row, sql_sink

HOSTILE = [
    b'it\'s "quoted"; DROP TABLE kfd_files; --',
    b"new\nline\ttab\x1b[31m",
    b"not utf-8 \xff\xfe",
    "schön \u202e evil".encode(),
    b"back\\slash %s :name {x}",
]


def lite(directory: Path, **settings: Any) -> SqlSink:
    return sql_sink(url=f"sqlite:///{directory}/c.db", **settings)


def fetched(directory: Path, statement: str) -> list[Any]:
    with sqlite3.connect(directory / "c.db") as connection:
        return connection.execute(statement).fetchall()


def test_a_row_says_all(tmp_path: Path) -> None:
    assert lite(tmp_path).write([row()]) == []
    (found,) = fetched(tmp_path, "SELECT tid, receiver, route, name, path, path_bytes, stored,"
        " size, digest, origin, topic, mtime, sent, published, metadata"
        " FROM kfd_files")  # fmt: skip
    time = "2026-11-23 01:02:03.456789"
    assert found == (
        *("0" * 32, "lab2", "archive", "run.trc", "scope3/run.trc", b"scope3/run.trc"),
        *("scope3/run.trc", 20_000, "ab" * 32, "scope3", "lecroy_files", time, time, time),
        '{"sample": "42"}',
    )


def test_what_was_written_before_changes_nothing(tmp_path: Path) -> None:
    lite(tmp_path).write([row(1), row(2)])
    assert lite(tmp_path).write([row(2), row(3), row(3)]) == []
    assert fetched(tmp_path, "SELECT count(*) FROM kfd_files") == [(3,)]


def test_each_receiver_and_route_has_a_row_of_its_own(tmp_path: Path) -> None:
    lite(tmp_path).write([row(), row(receiver="lab3"), row(route="copies"), row(receiver="")])
    assert fetched(tmp_path, "SELECT count(*) FROM kfd_files") == [(4,)]


def test_hostile_names(tmp_path: Path) -> None:
    sink = lite(tmp_path)
    assert sink.write([row(at, path) for at, path in enumerate(HOSTILE)]) == []
    found = fetched(tmp_path, "SELECT path, path_bytes FROM kfd_files ORDER BY tid")
    assert [path for _, path in found] == HOSTILE
    assert all(text.isprintable() for text, _ in found)


def test_times_that_no_calendar_has(tmp_path: Path) -> None:
    lite(tmp_path).write([row(mtime=None, sent=None)])
    assert fetched(tmp_path, "SELECT mtime, sent FROM kfd_files") == [(None, None)]


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    columns = {"id": "tid", "FileName": "name", "Sample": "meta.sample", "Nothing": "meta.no"}
    lite(tmp_path, table="Files", columns=columns).write([row()])
    found = fetched(tmp_path, 'SELECT id, "FileName", "Sample", "Nothing" FROM "Files"')
    assert found == [("0" * 32, "run.trc", "42", None)]


def test_a_table_without_what_is_needed(tmp_path: Path) -> None:
    fetched(tmp_path, "CREATE TABLE kfd_files (tid TEXT PRIMARY KEY, name TEXT)")
    with pytest.raises(SinkError) as caught:
        lite(tmp_path).write([row()])
    assert str(caught.value).startswith("table kfd_files has no column receiver, route, path,")
    assert "ADD COLUMN receiver VARCHAR(64), ADD COLUMN route VARCHAR(64)" in caught.value.fix


def test_a_table_that_wants_more_than_there_is(tmp_path: Path) -> None:
    fetched(tmp_path, "CREATE TABLE kfd_files (tid TEXT PRIMARY KEY, name TEXT, by TEXT NOT NULL)")
    with pytest.raises(SinkError, match="wants values that kfd doesn't have: by"):
        lite(tmp_path, columns={"tid": "tid", "name": "name"}).write([row()])


def test_somebody_elses_table_with_other_types_and_columns(tmp_path: Path) -> None:
    fetched(
        tmp_path,
        "CREATE TABLE mine (no INTEGER PRIMARY KEY, tid BLOB, size TEXT, at INTEGER,"
        " meta TEXT, sample INTEGER, note TEXT DEFAULT 'none')",
    )
    columns = {"tid": "tid", "size": "size", "at": "mtime", "meta": "metadata",
               "sample": "meta.sample"}  # fmt: skip
    sink = lite(tmp_path, table="mine", columns=columns)
    assert sink.write([row(1), row(2, metadata={"sample": "many"})]) == []
    assert lite(tmp_path, table="mine", columns=columns).write([row(1)]) == []  # no unique key
    found = fetched(tmp_path, "SELECT hex(tid), size, at, meta, sample, note FROM mine")
    assert found == [
        (f"{1:032x}", "20000", 1795395723, '{"sample": "42"}', 42, "none"),
        (f"{2:032x}", "20000", 1795395723, '{"sample": "many"}', None, "none"),
    ]


def test_only_the_row_that_is_refused_is_left_out(tmp_path: Path) -> None:
    fetched(
        tmp_path,
        "CREATE TABLE small (tid TEXT PRIMARY KEY, size INTEGER CHECK (size < 1000))",
    )
    sink = lite(tmp_path, table="small", columns={"tid": "tid", "size": "size"})
    rows = [row(number, size=5000 if number in (3, 7) else 5) for number in range(10)]
    refused = sink.write(rows)
    assert [one.row for one in refused] == [rows[3], rows[7]]
    assert "CHECK constraint failed" in refused[0].reason
    assert fetched(tmp_path, "SELECT count(*) FROM small") == [(8,)]


def test_another_unique_key_is_not_taken_for_a_repetition(tmp_path: Path) -> None:
    fetched(tmp_path, "CREATE TABLE once (tid TEXT PRIMARY KEY, name TEXT UNIQUE)")
    sink = lite(tmp_path, table="once", columns={"tid": "tid", "name": "name"})
    (refused,) = sink.write([row(1), row(2)])
    assert (refused.row.tid, "UNIQUE" in refused.reason) == (f"{2:032x}", True)


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="unable to open database file") as caught:
        lite(tmp_path / "missing").write([row()])
    assert caught.value.retry


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mysql+pymysql://kfd:hunter2@127.0.0.1/lab", "No module named 'pymysql'"),
        ("nonsense://kfd:hunter2@127.0.0.1/lab", "nonsense"),
    ],
)
def test_a_driver_that_is_not_there(url: str, what: str) -> None:
    with pytest.raises(SinkError, match=what) as caught:
        sql_sink(url=url).write([row()])
    assert "hunter2" not in str(caught.value) + caught.value.fix
    assert caught.value.fix.startswith("install the driver of ")


def test_a_password_that_cannot_be_read(tmp_path: Path) -> None:
    """Its own remedy is told."""
    url, secret = "postgresql+psycopg://kfd@127.0.0.1/lab", {"file": f"{tmp_path}/none"}
    config = configured(url=url, password=secret)
    settings = config.catalogue["lab"]
    assert isinstance(settings, SqlCatalogue)
    sink = SqlSink(settings, partial(config.catalogue_secret, "lab"), threading.Event())
    with pytest.raises(SinkError, match=r"catalogue.lab.password: not readable: ") as caught:
        sink.open()
    assert caught.value.fix.startswith("write the secret into that file")


def test_a_database_that_is_locked_is_tried_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("kfd.daemon.catalogue.sql._BOUNDS", {"pysqlite": {"timeout": 0.1}})
    lite(tmp_path).write([row(1)])
    with sqlite3.connect(tmp_path / "c.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SinkError, match="locked"):
            lite(tmp_path).write([row(2)])
        other.execute("ROLLBACK")
    assert lite(tmp_path).write([row(2)]) == []
    assert os.path.exists(tmp_path / "c.db")
