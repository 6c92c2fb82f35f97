"""A daemon that tells CasJobs what it has published: one row a file, whatever happens meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.casjobs.server import RunningCasJobs, casjobs_server, cut_off, lost, status
from tests.casjobs.tsql import Column, Kind, Table
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.support import eventually

pytestmark = pytest.mark.broker

COLUMNS = {"tid": "tid", "FileName": "name", "FileSize": "size", "Path": "path", "kfd": "receiver"}


@pytest.fixture
def casjobs() -> Iterator[RunningCasJobs]:
    with casjobs_server() as server:
        yield server


@pytest.fixture
def host(make_host: MakeHost, casjobs: RunningCasJobs) -> Host:
    """It sends, receives and tells; not started yet."""
    return telling(make_host, casjobs)


def telling(make_host: MakeHost, casjobs: RunningCasJobs, **more: Any) -> Host:
    settings = casjobs.settings(table="FileTable", columns=COLUMNS, **more)
    return make_host(pools=ONE_READER, origin="lab1", catalogue={"sciserver": settings})


def told(casjobs: RunningCasJobs) -> dict[str, int]:
    """How often each path is in the table."""
    return Counter(row["Path"] for row in casjobs.rows("FileTable"))


def tells(casjobs: RunningCasJobs, *paths: str) -> None:
    wanted = dict.fromkeys(paths, 1)
    eventually(lambda: told(casjobs) == wanted)


def problem(host: Host) -> str:
    """What the status says of the sink."""
    found = [one for one in host.status()["problems"] if one["scope"] == "catalogue-sciserver"]
    return f"{found[0]['text']} / {found[0]['fix']}" if found else ""


def test_a_row_for_each_published_file(host: Host, casjobs: RunningCasJobs) -> None:
    host.start()
    host.put("run1.trc", b"x" * 1000)
    host.put(b"day/it's; --\xff\n.trc", b"y")
    tells(casjobs, "run1.trc", "day/it's; --\\xff\\x0a.trc")
    rows = {row["Path"]: row for row in casjobs.rows("FileTable")}
    assert rows["run1.trc"]["FileSize"] == 1000
    assert rows["run1.trc"]["kfd"] == "lab1"
    assert rows["day/it's; --\\xff\\x0a.trc"]["FileName"] == "it's; --\\xff\\x0a.trc"
    assert problem(host) == ""


def test_casjobs_away_and_back(host: Host, casjobs: RunningCasJobs) -> None:
    casjobs.stop()
    host.start()
    host.put("a", b"1")
    host.receives("a")
    assert "can't be reached" in eventually(lambda: problem(host))
    host.kill9()
    host.start()
    host.put("b", b"2")
    host.receives("b")
    casjobs.start()
    tells(casjobs, "a", "b")
    eventually(lambda: problem(host) == "")


def test_answers_that_are_lost_and_tokens_that_expire(host: Host, casjobs: RunningCasJobs) -> None:
    """Each may come before or after the rows were written."""
    host.start()
    host.put("first", b"1")
    tells(casjobs, "first")
    faults = [lost, status(401), cut_off, status(503), status(401)]
    for number, fault in enumerate(faults):
        casjobs.expire_tokens()
        casjobs.next(fault)
        host.put(f"run{number}", b"2")
        host.receives(f"run{number}")
    tells(casjobs, "first", *(f"run{number}" for number in range(len(faults))))


def test_a_kill_between_the_row_and_the_note_of_it(host: Host, casjobs: RunningCasJobs) -> None:
    host.environment["KFD_CRASH_AT"] = "catalogue.written"
    host.start()
    host.put("a", b"1")
    host.wait()
    assert told(casjobs) == {"a": 1}
    del host.environment["KFD_CRASH_AT"]
    host.start()
    host.put("b", b"2")
    tells(casjobs, "a", "b")


def test_recreate_is_not_done_by_a_restart(make_host: MakeHost, casjobs: RunningCasJobs) -> None:
    casjobs.database.run("CREATE TABLE [FileTable] ([old] BIGINT NULL)")
    host = telling(make_host, casjobs, recreate=True)
    host.start()
    host.put("a", b"1")
    tells(casjobs, "a")
    host.kill9()
    host.start()
    host.put("b", b"2")
    tells(casjobs, "a", "b")
    assert casjobs.database.dropped == ["FileTable"]


def test_a_log_in_that_is_refused(host: Host, casjobs: RunningCasJobs) -> None:
    """Files go on; the status says it, without the password; once it is right, all are told."""
    password = casjobs.users["anna"]
    casjobs.users["anna"] = "another"
    host.start()
    host.put("a", b"1")
    host.receives("a")
    seen = eventually(lambda: problem(host))
    assert "log-in refused" in seen
    assert "user and password of catalogue sciserver" in seen
    assert password not in host.log() + repr(host.status()) + host.ctl("config", "show").stdout
    casjobs.users["anna"] = password
    tells(casjobs, "a")


def test_what_the_old_uploader_did(host: Host, casjobs: RunningCasJobs, tmp_path: Path) -> None:
    """One file by hand, without Kafka; again, it changes nothing."""
    host.start()
    file = tmp_path / "it's.trc"
    file.write_bytes(b"x" * 77)
    for _ in range(2):
        done = host.ctl("catalogue", "add", file)
        assert done.returncode == 0, done.stderr
        (row,) = casjobs.rows("FileTable")
        assert (row["FileName"], row["FileSize"], row["kfd"]) == ("it's.trc", 77, "")


def test_a_table_that_knows_no_row_again(
    make_host: MakeHost, casjobs: RunningCasJobs, tmp_path: Path
) -> None:
    """As the old uploader made it: nothing that is asked for makes a row twice."""
    old = casjobs.settings(table="FileTable", columns={"Path": "name", "FileSize": "size"})
    host = make_host(pools=ONE_READER, catalogue={"sciserver": old})
    host.start()
    host.put("a", b"1")
    tells(casjobs, "a")
    (tmp_path / "note").write_bytes(b"x")
    for _ in range(2):
        assert host.ctl("catalogue", "add", tmp_path / "note").returncode == 0
    done = host.ctl("catalogue", "retry", "--all")
    assert (done.returncode, "has no column for tid" in done.stderr) == (2, True)
    host.put("b", b"2")
    tells(casjobs, "a", "note", "b")


def test_a_row_that_the_table_refuses(host: Host, casjobs: RunningCasJobs) -> None:
    """Of a table that somebody made with a short column; once it is wider, `retry` mends it."""
    kinds = {"FileName": Kind("NVARCHAR", 8), "FileSize": Kind("BIGINT")}
    table = Table([Column(name, kinds.get(name, Kind("NVARCHAR", 99))) for name in COLUMNS])
    casjobs.database.tables["FileTable"] = table
    host.start()
    host.put("much-too-long.trc", b"1")
    host.put("a.trc", b"2")
    tells(casjobs, "a.trc")
    (refused,) = eventually(lambda: host.call("ListCatalogues", limit=9)["refused"])
    assert refused["path"] == "much-too-long.trc"
    assert "would be truncated" in refused["reason"]
    table.named("FileName").kind = Kind("NVARCHAR", 99)
    assert host.ctl("catalogue", "retry").returncode == 0
    tells(casjobs, "a.trc", "much-too-long.trc")
