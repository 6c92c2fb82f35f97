"""``kfdctl`` names the unit of the daemon that it asks, and that daemon's file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from kfd import unit as units
from kfd.control.examination import Check, Outcome
from kfd.ctl.cli import kfdctl
from tests.control import MemoryOperations
from tests.unit.ctl.kfdctl import run

LAB2 = "/run/kfd-lab2/kfd.sock"


@pytest.fixture
def path_with_systemd(tmp_path: Path) -> str:
    """One whose systemctl knows every unit, and says that it is stopped."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$2" >>{tmp_path}/asked\n'
        "printf '%s\\n' LoadState=loaded ActiveState=inactive Result=success User=root"
        " ProtectSystem=strict\n"
    )
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("given", ["option", "environment"])
def test_doctor_looks_at_the_instance(given: str, path_with_systemd: str, tmp_path: Path) -> None:
    if given == "option":
        code, out, _ = run("--socket", LAB2, "doctor", PATH=path_with_systemd)
    else:
        code, out, _ = run("doctor", PATH=path_with_systemd, KFD_SOCKET=LAB2)
    assert code == 3
    assert "FAIL service: is stopped\n       fix: systemctl start kfd@lab2\n" in out
    assert "/etc/kfd/lab2.yaml" in out
    assert (tmp_path / "asked").read_text() == "kfd@lab2.service\n"


def test_doctor_knows_nothing_of_another_socket(path_with_systemd: str, tmp_path: Path) -> None:
    code, out, _ = run("--socket", tmp_path / "none.sock", "doctor", PATH=path_with_systemd)
    assert code == 3
    assert out.startswith("-    configuration: not known for this socket: --config FILE")
    assert not (tmp_path / "asked").exists()
    code, _, err = run("--socket", tmp_path / "none.sock", "doctor", "--acls")
    assert code == 3
    assert "--config FILE" in err


@pytest.mark.parametrize(("name", "unit"), [("kfd", "kfd"), ("lab2", "kfd@lab2")])
def test_config_check_looks_as_the_service_does(
    name: str,
    unit: str,
    path_with_systemd: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / f"{name}.yaml").write_text(
        "kafka: {bootstrap.servers: k}\n"
        f"downloads: {{d: {{directory: {tmp_path}/in, topic: t}}}}\n"
    )
    monkeypatch.setattr(units, "CONFIG", etc / "kfd.yaml")
    monkeypatch.setenv("PATH", path_with_systemd)
    monkeypatch.chdir(etc)
    done = CliRunner().invoke(kfdctl, ["--json", "config", "check", f"{name}.yaml"])
    assert done.exit_code != 0
    assert (tmp_path / "asked").read_text() == f"{unit}.service\n"
    assert f"systemctl edit {unit} -> [Service] ReadWritePaths=-{tmp_path}/in" in str(
        [getattr(done.exception, "fix", ""), done.output]
    )


def test_a_file_for_doctor_is_not_ignored_in_silence(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    operations.checks = [Check("now", Outcome.OK, "nothing is degraded")]
    file = tmp_path / "kfd.yaml"
    _, out, err = run("--json", "--socket", served, "doctor", "--config", file)
    assert json.loads(out)["running"] is True
    assert f"{file} is not looked at: kfd runs" in err
    assert f"fix: kfdctl config check {file}" in err
