"""``kfdctl config check``: what a file needs on this host, besides being right itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config import from_values
from kfd.ctl.hostchecks import host_faults, properties_of
from kfd.ctl.service import Service
from tests.unit.ctl.kfdctl import run

KAFKA = "kafka:\n  bootstrap.servers: k:9092\n"


def written(directory: Path, text: str) -> Path:
    path = directory / "kfd.yaml"
    path.write_text(KAFKA + text)
    return path


def test_the_file_is_an_argument_too(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert run("config", "check", path)[:2] == (0, f"{path}: valid; 0 uploads, 0 downloads\n")
    assert run("config", "show", path)[1] == run("config", "show", "--config", path)[1]
    code, _, err = run("config", "check", path, "--config", path)
    assert (code, "the same" in err) == (2, True)


def test_all_faults_of_the_host_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    path = written(
        tmp_path,
        f"  no.such.property: 1\n  sasl.password: {{file: {tmp_path}/none}}\n"
        f"uploads:\n  u: {{directory: {tmp_path}/link, topic: t}}\n"
        f"downloads:\n  a: {{directory: {tmp_path}/file/in, topic: t, owner_group: no-such}}\n"
        f"  b: {{directory: {tmp_path}/real/in, topic: t}}\n",
    )
    code, out, err = run("config", "check", path)
    assert (code, out) == (78, "")
    places = [line.partition(": ")[0] for line in err.splitlines() if "fix:" not in line]
    assert places == [f"kfd.yaml:{line}" for line in (3, 4, 8, 8, 9)]
    for part in (
        "kfd.yaml:3: kafka.no.such.property: no such property",
        "kfd.yaml:4: kafka.sasl.password: not readable",
        f"kfd.yaml:8: downloads.a.directory: a file is in its way: {tmp_path}/file",
        "kfd.yaml:8: downloads.a.owner_group: no group no-such on this host",
        "kfd.yaml:9: downloads.b.directory lies in uploads.u.directory",
    ):
        assert part in err.replace("downloads.b.directory: ", "downloads.b.directory "), part
    assert err.count("fix: ") == 5


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        (
            "nonsense://u:hunter2@h/d",
            "nonsense: Can't load plugin",
            "install the driver of nonsense",
        ),
        (
            "mysql+pymysql://u:hunter2@h/d",
            "No module named 'pymysql'",
            "install the driver of mysql",
        ),
        (
            "postgresql+pg8000://u:hunter2@h/d",
            "No module named 'pg8000'",
            "write postgresql+psycopg",
        ),
        ("postgresql+asyncpg://u:hunter2@h/d", "an asynchronous driver", "name another before ://"),
    ],
)
def test_a_database_that_cannot_be_reached_from_here(
    tmp_path: Path, url: str, what: str, fix: str
) -> None:
    path = written(tmp_path, f"catalogue:\n  lab: {{url: '{url}'}}\n")
    code, _, err = run("config", "check", path)
    assert code == 78
    assert err.startswith(f"kfd.yaml:4: catalogue.lab.url: {url.partition(':')[0]}: ")
    assert what in err
    assert f"  fix: {fix}" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:hunter2@h/d", "sqlite:////srv/c.db"])
def test_a_database_whose_driver_is_here(tmp_path: Path, url: str) -> None:
    """Nobody connects to it."""
    path = written(tmp_path, f"catalogue:\n  lab: {{url: '{url}'}}\n")
    assert run("config", "check", path)[0] == 0


def test_a_file_that_may_not_be_read_is_no_usage_error(tmp_path: Path) -> None:
    code, _, err = run("config", "check", tmp_path)  # a directory, also for root
    assert code == 78
    assert "fix:" in err


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "kfd.yaml"
    path.write_bytes(b"kafka: \xff\n")
    assert run("config", "check", path)[0] == 78


@pytest.fixture
def unit() -> Service:
    return Service(
        {
            "User": "root",
            "ProtectSystem": "strict",
            "ProtectHome": "read-only",
            "LoadCredential": "kafka-password:/etc/kfd/password",
        }
    )


def test_what_the_sandbox_forbids_comes_with_the_drop_in(tmp_path: Path, unit: Service) -> None:
    config = from_values(
        {
            "kafka": {"bootstrap.servers": "k"},
            "uploads": {"u": {"directory": "/srv/in", "topic": "t", "then": {"move": "/srv/out"}}},
            "downloads": {"d": {"directory": str(tmp_path / "in"), "topic": "t"}},
        }
    )
    faults = list(host_faults(config, unit))
    places = [f"{tmp_path}/in", "/srv/in", "/srv/out"]
    allowed = " ".join(f"-{place}" for place in places)
    assert {fault.fix for fault in faults} == {
        f"systemctl edit kfd -> [Service] ReadWritePaths={allowed}; then systemctl restart kfd"
    }
    assert [str(fault) for fault in faults] == [
        f"read-only for the service: {place}" for place in places
    ]


def test_a_user_that_does_not_exist(unit: Service) -> None:
    config = from_values({"kafka": {"bootstrap.servers": "k"}})
    missing = Service({**unit.properties, "User": "no-such-user"})
    (fault,) = host_faults(config, missing)
    assert "no user no-such-user" in str(fault)
    assert fault.fix == "systemd-sysusers"


def test_credentials_are_looked_for_in_the_unit(unit: Service) -> None:
    def looked_for(name: str) -> tuple[dict[str, str], int]:
        kafka = {"bootstrap.servers": "k", "sasl.password": {"credential": name}}
        found, faults = properties_of(from_values({"kafka": kafka}), unit)
        return found, len(faults)

    assert looked_for("kafka-password") == ({"bootstrap.servers": "k"}, 0)
    assert looked_for("other") == ({"bootstrap.servers": "k"}, 1)
