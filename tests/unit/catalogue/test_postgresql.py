"""Rows in a real PostgreSQL server: restarted, cut off, hanging, with tables of others."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from kfd.config.catalogues import SqlCatalogue
from kfd.daemon.catalogue import sql
from kfd.daemon.catalogue.sink import SinkError
from kfd.daemon.catalogue.sql import SqlSink
from tests.postgres import PASSWORD, PostgreSQL
from tests.unit.catalogue.rows import WHEN, configured, row, sql_sink
from tests.unit.catalogue.test_sql import HOSTILE


@pytest.fixture
def settings(postgres: PostgreSQL, database: str) -> dict[str, Any]:
    return {"url": postgres.url(database)}


def to(settings: dict[str, Any], **more: Any) -> SqlSink:
    return sql_sink(PASSWORD, **settings, **more)


def test_a_row_says_all(postgres: PostgreSQL, database: str, settings: dict[str, Any]) -> None:
    assert to(settings).write([row()]) == []
    assert to(settings).write([row(), row(1)]) == []
    (found, _) = postgres.execute(
        database,
        "SELECT path, path_bytes, size, mtime, sent, published, metadata->>'sample', receiver"
        " FROM kfd_files ORDER BY tid",
    )
    path = "scope3/run.trc"
    assert found == (path, path.encode(), 20_000, WHEN, WHEN, WHEN, "42", "lab2")


def test_hostile_names(postgres: PostgreSQL, database: str, settings: dict[str, Any]) -> None:
    rows = [row(at, path, metadata={"note": "'; --\n\\"}) for at, path in enumerate(HOSTILE)]
    assert to(settings).write(rows) == []
    found = postgres.execute(database, "SELECT path_bytes FROM kfd_files ORDER BY tid")
    assert [bytes(path) for (path,) in found] == HOSTILE


def test_a_password_is_needed_and_never_told(settings: dict[str, Any]) -> None:
    with pytest.raises(SinkError, match="password authentication failed") as caught:
        sql_sink("wrong-hunter2", **settings).write([row()])
    assert "hunter2" not in str(caught.value) + caught.value.fix


@pytest.mark.parametrize("url", ["{0}", "{0}?bogus=hunter2", "{0}?password=hunter2-option"])
def test_nothing_secret_is_told_of_an_address_that_is_wrong(
    settings: dict[str, Any], url: str
) -> None:
    given = url.format(settings["url"].replace("kfd@", "kfd:hunter2%40x%2Fwrong@"))
    with pytest.raises(SinkError) as caught:
        sql_sink(url=given).write([row()])
    assert "hunter2" not in str(caught.value) + caught.value.fix.replace("bogus=hunter2", "")
    assert caught.value.fix.startswith("look at postgresql+psycopg://kfd:(hidden)@127.0.0.1:")


def test_a_password_that_no_driver_takes_is_not_quoted(settings: dict[str, Any]) -> None:
    with pytest.raises(SinkError) as caught:
        sql_sink("hunter\udcff2", **settings).write([row()])
    assert "udcff" not in str(caught.value)


def test_a_password_in_the_url(postgres: PostgreSQL, database: str) -> None:
    url = postgres.url(database).replace("kfd@", "kfd:se%40cret%3Aw%25rd@")
    assert sql_sink(url=url).write([row()]) == []


def test_the_server_restarts(postgres: PostgreSQL, database: str, settings: dict[str, Any]) -> None:
    sink = to(settings)
    sink.write([row(1)])
    postgres.restart()
    with pytest.raises(SinkError):
        sink.write([row(2)])
    sink.close()
    assert to(settings).write([row(2)]) == []
    assert postgres.execute(database, "SELECT count(*) FROM kfd_files") == [(2,)]


def test_a_connection_is_lost(
    postgres: PostgreSQL, database: str, settings: dict[str, Any]
) -> None:
    sink = to(settings)
    sink.write([row(1)])
    assert postgres.drop_connections(database)
    with pytest.raises(SinkError):
        sink.write([row(2)])
    assert to(settings).write([row(1), row(2)]) == []


def test_a_server_that_hangs_is_given_up(
    postgres: PostgreSQL, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = to(settings)
    sink.write([row(1)])
    with monkeypatch.context() as patch, postgres.hanging():
        patch.setattr(sql, "ANSWER_SECONDS", 0.5)
        with pytest.raises(SinkError):
            sink.write([row(2)])
    assert to(settings).write([row(2)]) == []


def test_who_is_stopped_does_not_wait_for_a_server(
    postgres: PostgreSQL, settings: dict[str, Any]
) -> None:
    found = configured(**settings).catalogue["lab"]
    assert isinstance(found, SqlCatalogue)
    stopping = threading.Event()
    sink = SqlSink(found, lambda: PASSWORD, stopping)
    sink.write([row(1)])
    began = time.monotonic()
    with postgres.hanging():
        threading.Timer(0.3, stopping.set).start()
        with pytest.raises(SinkError):
            sink.write([row(2)])
    assert time.monotonic() - began < sql.ANSWER_SECONDS


def test_somebody_elses_table(
    postgres: PostgreSQL, database: str, settings: dict[str, Any]
) -> None:
    postgres.execute(
        database,
        'CREATE TABLE "Lab Files" (no serial PRIMARY KEY, "FileName" varchar(20) NOT NULL,'
        ' "FileSize" int, "Id" uuid UNIQUE, made timestamp, raw bytea, about text, extra int)',
    )
    columns = {"FileName": "name", "FileSize": "size", "Id": "tid", "made": "mtime",
               "raw": "path_bytes", "about": "metadata"}  # fmt: skip
    fits, long, large = row(1), row(2, b"x" * 30), row(3, size=2**40)
    refused = to(settings, table="Lab Files", columns=columns).write([fits, long, large])
    assert [one.row for one in refused] == [long, large]
    assert "too long" in refused[0].reason
    assert "out of range" in refused[1].reason
    to(settings, table="Lab Files", columns=columns).write([fits])
    ((name, size, made, about),) = postgres.execute(
        database, 'SELECT "FileName", "FileSize", made, about FROM "Lab Files"'
    )
    assert (name, size, made) == ("run.trc", 20_000, WHEN.replace(tzinfo=None))
    assert json.loads(about) == {"sample": "42"}


def test_a_table_that_lacks_columns(
    postgres: PostgreSQL, database: str, settings: dict[str, Any]
) -> None:
    postgres.execute(database, "CREATE SCHEMA lab")
    postgres.execute(database, "CREATE TABLE lab.files (tid text, name text)")
    with pytest.raises(SinkError, match=r"lab\.files has no column receiver, route") as caught:
        to(settings, table="lab.files").write([row()])
    postgres.execute(database, caught.value.fix.partition(";")[0])
    assert to(settings, table="lab.files").write([row()]) == []


def test_rights_that_are_missing(
    postgres: PostgreSQL, database: str, settings: dict[str, Any]
) -> None:
    postgres.execute(database, "CREATE TABLE kfd_files (tid text PRIMARY KEY)")
    postgres.execute(database, "CREATE VIEW seen AS SELECT tid || '' AS tid FROM kfd_files")
    with pytest.raises(SinkError):
        to(settings, table="seen", columns={"tid": "tid"}).write([row()])
