"""What is published comes into catalogues, SQLite and a real PostgreSQL, whatever happens."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.postgres import PASSWORD, PostgreSQL
from tests.support import eventually

NAMES = [
    b'it\'s "quoted"; DROP TABLE kfd_files;--.trc',
    b"\xff\xfe new\nline.trc",
    b"sub/plain.trc",
]


def kfdctl(host: Host, *arguments: str) -> dict[str, Any]:
    """What a verb prints as JSON."""
    done = host.ctl("--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def lab(url: str, **settings: Any) -> dict[str, Any]:
    return {"catalogue": {"lab": {"url": url, "password": PASSWORD, **settings}}}


@pytest.fixture
def cataloguing(make_host: MakeHost, postgres: PostgreSQL, database: str) -> Host:
    """A host that sends and receives, with a catalogue in PostgreSQL; not started."""
    return make_host(pools=ONE_READER, **lab(postgres.url(database)))


def paths(postgres: PostgreSQL, database: str, where: str = "true") -> set[bytes]:
    if not postgres.execute(database, "SELECT to_regclass('kfd_files')")[0][0]:
        return set()
    rows = postgres.execute(database, f"SELECT path_bytes FROM kfd_files WHERE {where}")
    found = [bytes(path) for (path,) in rows]
    assert len(set(found)) == len(found)
    return set(found)


def standing(host: Host) -> dict[str, Any]:
    (one,) = host.call("ListCatalogues", limit=0)["catalogues"]
    return dict(one)


def test_all_that_is_known_of_a_file_is_in_its_row(
    make_host: MakeHost, postgres: PostgreSQL, database: str
) -> None:
    host = make_host(
        pools=ONE_READER, origin="scope3",
        upload={"meta": {"instrument": "scope3", "sample": "none"}},
        download={"meta": {"site": "here"}},
        **lab(postgres.url(database), sent="delivered"),
    )  # fmt: skip
    for name in NAMES:
        host.put(name, b"x" * 20_000)
    host.start()
    host.receives_all()
    eventually(lambda: len(paths(postgres, database, "receiver <> ''")) == len(NAMES))
    assert paths(postgres, database, "receiver <> ''") == set(NAMES)
    eventually(lambda: paths(postgres, database, "receiver = ''") == set(NAMES))
    ((name, route, size, digest, origin, topic, receiver, metadata, ordered),) = postgres.execute(
        database,
        "SELECT name, route, size, digest, origin, topic, receiver, metadata,"
        " mtime <= sent AND sent <= published FROM kfd_files"
        " WHERE path = 'sub/plain.trc' AND receiver <> ''",
    )
    transfers = kfdctl(host, "list", "--name", "plain.trc", "--state", "published")["transfers"]
    (shown,) = [kfdctl(host, "show", one["tid"])["details"] for one in transfers]
    assert (name, route, size, digest) == ("plain.trc", "in", 20_000, shown["digest"])
    assert (origin, topic, receiver, ordered) == ("scope3", transfers[0]["topic"], "scope3", True)
    assert metadata == {"instrument": "scope3", "sample": "none", "site": "here"}


def test_a_server_that_is_away_and_restarts_gets_every_row_once(
    cataloguing: Host, postgres: PostgreSQL, database: str
) -> None:
    host = cataloguing
    postgres.stop()
    try:
        host.start()
        first = {host.put(f"{number}.trc", b"x") for number in range(20)}
        host.receives_all()  # nobody waits for the catalogue
        problems = eventually(lambda: host.status()["problems"])
        assert problems[0]["scope"] == "catalogue-lab"
        assert PASSWORD not in json.dumps(problems) + host.log()
    finally:
        postgres.start()
    kfdctl(host, "catalogue", "retry")  # not after a pause
    eventually(lambda: paths(postgres, database) == first)
    postgres.restart()
    second = {host.put(f"later-{number}.trc", b"x") for number in range(20)}
    eventually(lambda: paths(postgres, database) == first | second)
    assert postgres.drop_connections(database)
    third = {host.put("last.trc", b"x")}
    eventually(lambda: paths(postgres, database) == first | second | third)
    eventually(lambda: not host.status()["problems"])
    assert standing(host)["waiting"] == 0


def test_a_server_that_hangs_holds_nobody_up(
    cataloguing: Host, postgres: PostgreSQL, database: str
) -> None:
    host = cataloguing
    host.start()
    host.put("before.trc", b"x")
    eventually(lambda: paths(postgres, database) == {b"before.trc"})
    with postgres.hanging():
        for number in range(20):
            host.put(f"{number}.trc", b"x")
        host.receives_all()
        eventually(lambda: standing(host)["waiting"] == 20)  # a file is there before its row
        assert host.terminate() == 0
    host.start()
    eventually(lambda: len(paths(postgres, database)) == 21)


@pytest.mark.parametrize("point", ["publish.concluded", "catalogue.written"])
def test_killed_between_publishing_and_noting_that_it_is_written(
    cataloguing: Host, postgres: PostgreSQL, database: str, point: str
) -> None:
    host = cataloguing
    host.environment = {"KFD_CRASH_AT": point}
    wanted = {host.put(f"{number}.trc", b"x") for number in range(5)}
    host.spawn()
    assert host.wait() != 0
    host.environment = {}
    host.start()
    host.receives_all()
    eventually(lambda: paths(postgres, database) == wanted)
    eventually(lambda: standing(host)["waiting"] == 0)


def test_a_row_that_is_refused_is_set_aside_and_tried_again(
    cataloguing: Host, postgres: PostgreSQL, database: str
) -> None:
    host = cataloguing
    host.start()
    host.put("first.trc", b"x")
    eventually(lambda: paths(postgres, database) == {b"first.trc"})
    postgres.execute(database, "ALTER TABLE kfd_files ADD CONSTRAINT small CHECK (size < 100)")
    host.put("large.trc", b"x" * 200)
    host.put("small.trc", b"x")
    eventually(lambda: standing(host)["refused"] == 1)
    eventually(lambda: paths(postgres, database) == {b"first.trc", b"small.trc"})
    (refused,) = kfdctl(host, "catalogue", "status")["refused"]
    assert (refused["path"], 'violates check constraint "small"' in refused["reason"]) == (
        "large.trc", True,
    )  # fmt: skip
    said = host.ctl("catalogue", "status")
    assert said.stdout.splitlines()[1].split()[:5] == ["lab", "sql", "0", "1", "2"]
    assert "lab refused large.trc" in said.stderr
    assert "1 refused (kfdctl catalogue status)" in host.ctl("status").stdout
    assert 'kfd_catalogue_refused_rows{catalogue="lab"} 1.0' in host.ctl("metrics").stdout
    postgres.execute(database, "ALTER TABLE kfd_files DROP CONSTRAINT small")
    assert kfdctl(host, "catalogue", "retry")["rows"] == 1
    eventually(lambda: len(paths(postgres, database)) == 3)
    assert standing(host)["refused"] == 0


def test_files_can_be_added_without_being_sent(host_with_sqlite: Host, tmp_path: Path) -> None:
    host = host_with_sqlite
    host.start()
    file = tmp_path / "by hand.csv"
    file.write_bytes(b"1,2\n")
    for _ in range(2):
        added = kfdctl(host, "catalogue", "add", "--meta", "sample=42", str(file))
        assert (added["files"][0]["path"], added["refused"]) == ("by hand.csv", [])
    rows = fetched(tmp_path, "SELECT name, size, stored, topic, metadata FROM kfd_files")
    assert rows == [("by hand.csv", 4, str(file), "", '{"sample": "42"}')]
    missing = host.ctl("catalogue", "add", str(tmp_path / "nothing"))
    assert missing.returncode == 1
    wrong = host.ctl("catalogue", "add", "--catalogue", "nowhere", str(file))
    assert (wrong.returncode, "one of: lab" in wrong.stderr) == (2, True)


def test_a_catalogue_comes_with_a_reload_and_gets_what_was_before(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    host.put("before.trc", b"x")
    host.receives_all()
    values = yaml.safe_load(host.config.read_text()) | sqlite(tmp_path)
    host.config.write_text(yaml.safe_dump(values))
    assert kfdctl(host, "reload")["reloaded"]["added"] == ["catalogue.lab"]
    host.put("after.trc", b"x")
    eventually(lambda: stored(tmp_path) == {"after.trc"})
    kfdctl(host, "catalogue", "retry", "--all")
    eventually(lambda: stored(tmp_path) == {"before.trc", "after.trc"})
    del values["catalogue"]
    host.config.write_text(yaml.safe_dump(values))
    assert kfdctl(host, "reload")["reloaded"]["removed"] == ["catalogue.lab"]
    assert kfdctl(host, "catalogue", "status")["catalogues"] == []
    host.put("without.trc", b"x")
    host.receives_all()
    assert stored(tmp_path) == {"before.trc", "after.trc"}


def sqlite(directory: Path) -> dict[str, Any]:
    return {"catalogue": {"lab": {"url": f"sqlite:///{directory}/c.db"}}}


@pytest.fixture
def host_with_sqlite(make_host: MakeHost, tmp_path: Path) -> Host:
    return make_host(pools=ONE_READER, **sqlite(tmp_path))


def fetched(directory: Path, statement: str) -> list[Any]:
    with sqlite3.connect(directory / "c.db") as connection:
        return connection.execute(statement).fetchall()


def stored(directory: Path) -> set[str]:
    if not (directory / "c.db").exists():
        return set()
    try:
        return {path for (path,) in fetched(directory, "SELECT path FROM kfd_files")}
    except sqlite3.OperationalError:  # no such table yet
        return set()
