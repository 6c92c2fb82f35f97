"""The section ``catalogue``: what is taken, what is refused, and that no secret is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from kfd.config import Config, from_values, load, show
from kfd.config.catalogues import FIELDS, CasJobsCatalogue, SqlCatalogue
from kfd.config.changes import changes
from kfd.config.secrets import HIDDEN
from kfd.daemon.catalogue.sink import Row
from kfd.errors import ConfigError, faults_of
from tests.unit.config.files import KAFKA, written

URL = "postgresql+psycopg://kfd@db/lab"


def config(**catalogues: Any) -> Config:
    return from_values({"kafka": {"bootstrap.servers": "b:9092"}, "catalogue": catalogues})


def only(**settings: Any) -> Any:
    return config(lab=settings).catalogue["lab"]


def faults(**settings: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(lab=settings)
    return [f"{one}; {one.fix}" for one in faults_of(caught.value)]


def test_a_database_by_its_url() -> None:
    found = only(url=URL)
    assert isinstance(found, SqlCatalogue)
    assert (found.table, found.sent, found.secret) == ("kfd_files", "false", None)
    assert list(found.columns) == list(found.columns.values()) == list(FIELDS)


def test_the_fields_are_those_of_a_row() -> None:
    assert tuple(Row.__dataclass_fields__) == FIELDS


def test_casjobs() -> None:
    found = only(kind="casjobs", token={"credential": "sciserver"})
    assert isinstance(found, CasJobsCatalogue)
    assert found.columns == {"FileName": "name", "FileSize": "size", "tid": "tid"}
    assert found.rest.startswith("https://skyserver.sdss.org/")


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        (URL, URL),
        ("postgresql://u:hunter2@h/d", "postgresql://u:(hidden)@h/d"),
        ("postgresql://u:hunter2:/@h:5/d?a=b", "postgresql://u:(hidden)@h:5/d?a=b"),
        ("mysql://h/d?sslpassword=hunter2&x=y", "mysql://h/d?sslpassword=(hidden)&x=y"),
        ("sqlite:////var/lib/c.db", "sqlite:////var/lib/c.db"),
        ("sqlite:////var/a@b.db", "sqlite:////var/a@b.db"),
        ("mysql://u:hunter2@[::1]:5/d", "mysql://u:(hidden)@[::1]:5/d"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dhunter2", "mssql+pyodbc:///?odbc_connect=(hidden)"),
    ],
)
def test_urls_are_shown_without_their_passwords(url: str, seen: str) -> None:
    found = config(lab={"url": url})
    assert f"url: {seen}\n" in show(found)
    assert "hunter2" not in show(found) + repr(found)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("postgresql+psycopg://kfd:p@hunter2@127.0.0.1:5999/lab", "more than one @"),
        ("postgresql+psycopg://kfd:se@cret:hunter2@127.0.0.1:44733/lab", "more than one @"),
        ("postgresql://kfd:12/x@hunter2@h/d", "more than one @"),
        ("postgresql://kfd@corp:hunter2@h/d", "more than one @"),
        ("postgresql://kfd:x@h/hunter2@d", "more than one @"),
        ("postgresql://h/d?x=hunter2@", "more than one @"),
        ("postgresql://kfd:hunter2/lab", "no port of 1 to 65535"),
        ("postgresql://h:hunter2/lab", "no port of 1 to 65535"),
        ("postgresql://h:99999/hunter2", "no port of 1 to 65535"),
        ("post.gres://h/hunter2", "not the address of a database"),
        ("sqlite://", "not an absolute path of SQLite's file"),
        ("sqlite:///hunter2.db", "not an absolute path of SQLite's file"),
        ("sqlite+pysqlite:///:memory:", "not an absolute path of SQLite's file"),
        ("sqlite:////srv/", "not an absolute path of SQLite's file"),
        ("sqlite://h//srv/hunter2.db", "not an absolute path of SQLite's file"),
    ],
)
def test_addresses_that_are_none(url: str, fault: str) -> None:
    """Those that SQLAlchemy would take apart elsewhere than kfd does, too: nothing is quoted."""
    (found,) = faults(url=url)
    assert found.startswith(f"catalogue.lab.url: {fault}")
    assert "hunter2" not in found


url_text = st.text(st.sampled_from("ab1:/@?%[].+&=#"), max_size=25)


@given(url_text.map("x://".__add__) | url_text.map("sqlite://".__add__))
def test_addresses_are_taken_apart_as_sqlalchemy_does(text: str) -> None:
    try:
        taken = only(url=text).url
    except ConfigError:
        return
    url = sa.make_url(text)
    if url.password:
        assert HIDDEN in taken.hide(f"it says {url.password}")
        assert f":{HIDDEN}@" in taken.shown()
    shown = sa.make_url(taken.shown())
    assert (shown.host, shown.port, shown.database) == (url.host, url.port, url.database)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "catalogue.lab.url: missing; add url: postgresql+psycopg://USER@HOST/DATABASE"),
        ({"url": "db", "password": "hunter2"}, "catalogue.lab.url: not the address of a database"),
        ({"url": URL, "tabel": "x"}, 'catalogue.lab.tabel: unknown key; did you mean "table"?'),
        ({"url": URL, "table": 'a"b'}, "catalogue.lab.table: 'a\"b' is not the name of a table"),
        ({"url": URL, "sent": "yes"}, "catalogue.lab.sent: 'yes' is not known"),
        ({"url": URL, "columns": {"a": "tid", "b": "siez"}},
         "catalogue.lab.columns.b: 'siez' is no field; did you mean \"size\"?, or meta.KEY"),
        ({"url": URL, "columns": {"a": "size"}}, "catalogue.lab.columns: none is for the tid"),
        ({"url": URL, "password": {"file": "x"}}, "catalogue.lab.password: not an absolute path"),
        ({"kind": "casjobs", "token": "hunter2", "user": "u"}, "catalogue.lab.user: beside a"),
        ({"kind": "casjobs", "user": "u"}, "catalogue.lab.password: missing"),
        ({"kind": "casjobs", "token": "t", "rest": "http://far/x"}, "catalogue.lab.rest: not the"),
        ({"kind": "casjobs", "token": "t", "url": URL}, "catalogue.lab.url: unknown key; one of"),
    ],
)  # fmt: skip
def test_what_is_wrong(settings: dict[str, Any], fault: str) -> None:
    found = faults(**settings)
    assert found[0].startswith(fault)
    assert "hunter2" not in "".join(found)


def test_a_password_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    file = f"catalogue:\n  lab:\n    url: {URL}\n    password: {{file: {tmp_path}/password}}\n"
    found = load(written(tmp_path, KAFKA, file))
    assert found.catalogue_secret("lab") == "hunter2"
    assert "hunter2" not in show(found)
    (tmp_path / "password").unlink()
    with pytest.raises(ConfigError, match=r"kfd.yaml:\d+: catalogue.lab.password: not readable"):
        found.catalogue_secret("lab")


def test_a_reload_names_catalogues() -> None:
    old = config(a={"url": URL}, b={"url": URL})
    new = config(b={"url": URL, "table": "x"}, c={"url": URL})
    found = changes(old, new, {}, {})
    assert (found.added, found.changed, found.removed, found.restart) == (
        ("catalogue.c",), ("catalogue.b",), ("catalogue.a",), (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("meta", "fault"),
    [
        ({"a": ["x"]}, "uploads.a.meta.a: not text"),
        ("x", "uploads.a.meta: not a mapping"),
        ({"a": "x" * 3000}, "uploads.a.meta: 3001 bytes"),
    ],
)
def test_metadata_of_a_route(meta: Any, fault: str) -> None:
    route = {"directory": "/srv", "topic": "t", "meta": meta}
    with pytest.raises(ConfigError) as caught:
        from_values({"kafka": {"bootstrap.servers": "b:9092"}, "uploads": {"a": route}})
    assert str(caught.value).startswith(fault)
