"""The unit that kfd runs as, and the drop-ins that people are told of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfd import unit as units
from kfd.unit import config_of, drop_in, of_config, of_service, of_socket, writable
from tests.support import CHECKOUT


@pytest.mark.parametrize(
    ("socket", "unit"),
    [
        ("/run/kfd/kfd.sock", "kfd"),
        ("/run/kfd-lab2/kfd.sock", "kfd@lab2"),
        ("/run/user/1000/kfd/kfd.sock", "kfd"),
        ("/tmp/kfd-lab2/kfd.sock", "kfd"),
    ],
)
def test_unit_of_a_socket(socket: str, unit: str) -> None:
    assert of_socket(Path(socket)) == unit


@pytest.mark.parametrize("socket", ["/run/user/1000/kfd/kfd.sock", "/tmp/kfd-lab2/kfd.sock"])
def test_sockets_that_no_service_has(socket: str) -> None:
    assert of_service(Path(socket)) is None


def test_the_unit_of_a_socket_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").symlink_to("/run")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").mkdir()
    assert of_service(tmp_path / "run" / "kfd" / "kfd.sock") == "kfd"
    assert of_service(tmp_path / "run" / "kfd-lab2" / "kfd.sock") == "kfd@lab2"
    assert of_service(Path("/run/user/../kfd/kfd.sock")) == "kfd"
    assert of_service(tmp_path / "loop" / "kfd.sock") is None
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert of_service(Path("kfd.sock")) is None


def test_an_instance_has_a_file_of_its_own() -> None:
    assert config_of("kfd") == Path("/etc/kfd/kfd.yaml")
    assert config_of("kfd@lab2") == Path("/etc/kfd/lab2.yaml")


def test_the_unit_of_a_file_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    etc.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr(units, "CONFIG", etc / "kfd.yaml")
    monkeypatch.chdir(etc)
    (etc / "kfd.yaml").touch()
    (elsewhere / "link.yaml").symlink_to(etc / "kfd.yaml")
    (etc / "lab3.yaml").symlink_to(elsewhere / "other.yaml")
    (tmp_path / "way").symlink_to(etc)
    for path, unit in (
        (Path("kfd.yaml"), "kfd"),
        (etc / ".." / "etc" / "kfd.yaml", "kfd"),
        (elsewhere / "link.yaml", "kfd"),
        (tmp_path / "way" / "lab2.yaml", "kfd@lab2"),
        (etc / "lab3.yaml", "kfd@lab3"),
        (etc / "kfd.yaml.new", None),
        (etc / "two words.yaml", None),
        (elsewhere / "kfd.yaml", None),
    ):
        assert of_config(path) == unit, path


def test_no_text_names_a_unit_that_may_be_another() -> None:
    """Those that may are told where no daemon is known: by kfdctl of verbs that it hasn't, by a
    kfd that is no service, by what came before kfd."""
    named = re.compile(r"(systemctl [a-z]+|journalctl -u) kfd\b")
    may = {"ctl/cli.py", "daemon/publishing/destination.py", "oldconfig/translation.py"}
    program = CHECKOUT / "kfd"
    found = {
        str(file.relative_to(program))
        for file in program.rglob("*.py")
        if named.search(file.read_text(encoding="utf-8"))
    }
    assert found <= may


def test_drop_ins_name_the_unit_and_that_it_must_be_restarted() -> None:
    assert (
        drop_in("SystemCallFilter=@chown", "kfd@lab2")
        == "systemctl edit kfd@lab2 -> [Service] SystemCallFilter=@chown;"
        " then systemctl restart kfd@lab2"
    )


def test_service_starts_though_a_directory_is_missing() -> None:
    assert "ReadWritePaths=-/data/a -/data/b;" in writable([Path("/data/a"), Path("/data/b")])
