"""Rows that a table can't take: they alone are set aside, whatever the driver calls it."""

from __future__ import annotations

import random
import sqlite3
import string
import threading
from pathlib import Path
from typing import Any

import pytest

from kfd.config.catalogues import SqlCatalogue
from kfd.daemon.catalogue import sql
from kfd.daemon.catalogue.sink import SinkError
from kfd.daemon.catalogue.sql import SqlSink
from tests.postgres import PASSWORD, PostgreSQL
from tests.unit.catalogue.rows import configured, row, sql_sink


def lite(directory: Path, kind: str, **settings: Any) -> SqlSink:
    """Into a table of somebody else's, which keeps a value of the metadata."""
    with sqlite3.connect(directory / "c.db") as connection:
        connection.execute(f"CREATE TABLE t (tid TEXT PRIMARY KEY, n {kind}, size INTEGER)")
    columns = {"tid": "tid", "n": "meta.n"}
    return sql_sink(url=f"sqlite:///{directory}/c.db", table="t", columns=columns, **settings)


def numbers(directory: Path) -> list[Any]:
    with sqlite3.connect(directory / "c.db") as connection:
        return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY tid")]


@pytest.mark.parametrize("kind", ["INTEGER", "NUMERIC", "FLOAT"])
@pytest.mark.parametrize("text", ["9" * 25, "-" + "9" * 400, "9" * 5000, "1e999", "nan", "-inf"])
def test_numbers_that_no_column_holds_are_null(tmp_path: Path, kind: str, text: str) -> None:
    rows = [row(0, metadata={"n": "1"}), row(1, metadata={"n": text})]
    assert lite(tmp_path, kind).write(rows) == []
    assert numbers(tmp_path) == [1, None]


def test_the_largest_numbers_are_kept(tmp_path: Path) -> None:
    least, most = -(2**63), 2**63 - 1
    rows = [row(at, metadata={"n": str(n)}) for at, n in enumerate((least, most))]
    assert lite(tmp_path, "INTEGER").write(rows) == []
    assert numbers(tmp_path) == [least, most]


@pytest.mark.parametrize("kind", ["BOOLEAN", "DATETIME"])
def test_what_is_not_of_the_columns_type_is_refused(tmp_path: Path, kind: str) -> None:
    rows = [row(0, metadata={}), row(1, metadata={"n": "many"})]
    (refused,) = lite(tmp_path, kind).write(rows)
    assert refused.row == rows[1]
    assert refused.reason
    assert numbers(tmp_path) == [None]


def test_a_size_beyond_the_database_is_refused(tmp_path: Path) -> None:
    sink = lite(tmp_path, "TEXT")
    sink._settings.columns["size"] = "size"
    rows = [row(number, size=2**70 if number == 3 else 5) for number in range(6)]
    (refused,) = sink.write(rows)
    assert refused.row == rows[3]
    assert len(numbers(tmp_path)) == 5


def test_who_is_stopped_begins_nothing(tmp_path: Path) -> None:
    found = configured(url=f"sqlite:///{tmp_path}/c.db").catalogue["lab"]
    assert isinstance(found, SqlCatalogue)
    stopping = threading.Event()
    sink = SqlSink(found, lambda: "", stopping)
    assert sink.write([row(1)]) == []
    stopping.set()
    with pytest.raises(SinkError, match="kfd is stopping"):
        sink.write([row(2)])


def test_a_value_too_large_for_an_index(postgres: PostgreSQL, database: str) -> None:
    postgres.execute(database, "CREATE TABLE t (tid text PRIMARY KEY, sample text)")
    postgres.execute(database, "CREATE INDEX ON t (sample)")
    columns = {"tid": "tid", "sample": "meta.sample"}
    sink = sql_sink(PASSWORD, url=postgres.url(database), table="t", columns=columns)
    long = "".join(random.Random(1).choices(string.ascii_letters, k=6000))
    rows = [row(0), row(1, metadata={"sample": long}), row(2)]
    (refused,) = sink.write(rows)
    assert refused.row == rows[1]
    assert "index row size" in refused.reason
    assert postgres.execute(database, "SELECT count(*) FROM t") == [(2,)]


def test_a_database_in_another_encoding(postgres: PostgreSQL, database: str) -> None:
    name = f"{database}_latin1"
    postgres.execute(
        database,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    sink = sql_sink(PASSWORD, url=postgres.url(name))
    rows = [row(0, "schön.trc".encode()), row(1, "日本.trc".encode()), row(2)]
    (refused,) = sink.write(rows)
    assert refused.row == rows[1]
    assert 'no equivalent in encoding "LATIN1"' in refused.reason
    found = postgres.execute(name, "SELECT name FROM kfd_files ORDER BY tid")
    assert found == [("schön.trc",), ("run.trc",)]


def test_each_transaction_has_its_own_patience(
    postgres: PostgreSQL, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows are refused: looking for them all takes longer than one answer may."""
    postgres.execute(
        database,
        "CREATE FUNCTION slowly_no() RETURNS bool LANGUAGE sql VOLATILE AS"
        " 'SELECT pg_sleep(0.3) IS NULL'",
    )
    postgres.execute(database, "CREATE TABLE t (tid text PRIMARY KEY CHECK (slowly_no()))")
    sink = sql_sink(PASSWORD, url=postgres.url(database), table="t", columns={"tid": "tid"})
    assert sink.write([]) == []
    monkeypatch.setattr(sql, "ANSWER_SECONDS", 2.0)
    rows = [row(number) for number in range(8)]  # 15 transactions
    assert [one.row for one in sink.write(rows)] == rows
