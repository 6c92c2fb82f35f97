"""``kfd.service`` in a real systemd, installed as the comment at its head says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import CHECKOUT, eventually, unavailable
from tests.system.container import Container, debian_root, require_container

UNIT = CHECKOUT / "packaging" / "systemd" / "kfd.service"
KFDCTL = "/opt/kfd/bin/kfdctl"

pytestmark = pytest.mark.systemd


def test_systemd_accepts_every_line_of_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd-analyze is not installed")
    # The program isn't installed on this machine.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/kfd/bin/kfd", sys.executable))
    found = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project and all that it depends on, built from a copy of the checkout."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(CHECKOUT / "kfd", source / "kfd")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    wheels = tmp_path_factory.mktemp("wheels")
    # PEP 517: Debian's virtual environments have no `wheel` of their own
    options = ["--quiet", "--use-pep517", "--wheel-dir", str(wheels)]
    command = [sys.executable, "-m", "pip", "wheel", *options]
    subprocess.run([*command, str(source)], check=True)
    return wheels


@pytest.fixture
def configuration(bootstrap: str, topic: str, tmp_path: Path) -> Path:
    """A directory with a kfd.yaml of one upload and one download."""
    settings = {
        "kafka": {"bootstrap.servers": bootstrap},
        "uploads": {"scope": {"directory": "/srv/scope", "topic": topic}},
        "downloads": {"archive": {"directory": "/srv/lab", "topic": topic, "layout": "{path}"}},
    }
    (tmp_path / "kfd.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


@pytest.fixture
def machine(wheels: Path, configuration: Path) -> Iterator[Container]:
    """A machine where kfd is installed as a service that isn't started yet."""
    require_container()
    shared = {"/wheels": wheels, "/packaging": UNIT.parent, "/configuration": configuration}
    with Container(debian_root(), shared) as machine:
        machine.run("python3", "-m", "venv", "/opt/kfd")
        pip = ("/opt/kfd/bin/pip", "install", "--quiet", "--no-index", "--find-links=/wheels")
        machine.run(*pip, "kfd")
        machine.run("install", "-m", "644", "/packaging/kfd.sysusers.conf", "/usr/lib/sysusers.d/")
        machine.run("systemd-sysusers")
        machine.run("install", "-m", "644", "/packaging/kfd.service", "/etc/systemd/system/")
        machine.run("install", "-d", "/etc/kfd")
        machine.run("install", "-m", "640", "-g", "kfd", "/configuration/kfd.yaml", "/etc/kfd/")
        machine.run("install", "-d", "-o", "kfd", "-g", "kfd", "/srv/scope", "/srv/lab")
        _drop_in(machine, "ReadWritePaths=/srv/lab", "WatchdogSec=2")
        yield machine
        print(machine.run("journalctl", "-u", "kfd", check=False).stdout)  # shown if it failed


def _drop_in(machine: Container, *settings: str) -> None:
    """What ``systemctl edit kfd`` writes."""
    directory = "/etc/systemd/system/kfd.service.d"
    text = "\\n".join(("[Service]", *settings))
    machine.run("sh", "-c", f"mkdir -p {directory}; printf '{text}\\n' >{directory}/test.conf")
    machine.run("systemctl", "daemon-reload")


def _property(machine: Container, name: str) -> str:
    return machine.run("systemctl", "show", "kfd", "--value", "-p", name).stdout.strip()


def test_service_starts_sends_publishes_and_stays_stopped_after_quit(machine: Container) -> None:
    machine.run("useradd", "--groups", "kfd", "anna")
    machine.run("useradd", "bob")
    sent = "/usr/bin/python3." + str(sys.version_info.minor)

    machine.run("systemctl", "start", "kfd")  # returns when it says READY
    assert _property(machine, "ActiveState") == "active"
    pid = _property(machine, "MainPID")
    assert machine.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip() == "kfd"

    machine.run("runuser", "-u", "anna", "--", KFDCTL, "send", sent)
    eventually(
        lambda: machine.run("cmp", sent, f"/srv/lab/{Path(sent).name}", check=False).returncode == 0
    )
    status = machine.run("runuser", "-u", "anna", "--", KFDCTL, "status").stdout
    assert "scope" in status
    assert "archive" in status
    refused = machine.run("runuser", "-u", "bob", "--", KFDCTL, "status", check=False)
    assert refused.returncode == 4, refused.stderr

    fed = _property(machine, "WatchdogTimestampMonotonic")
    eventually(lambda: _property(machine, "WatchdogTimestampMonotonic") != fed)
    assert machine.run("journalctl", "-u", "kfd", "-t", "kfd", "-q").stdout
    assert machine.run("journalctl", "-u", "kfd", "-p", "err", "-q").stdout == ""

    machine.run(KFDCTL, "quit")
    eventually(lambda: _property(machine, "ActiveState") == "inactive")
    assert _property(machine, "Result") == "success"
    assert _property(machine, "ExecMainStatus") == "0"
    assert _property(machine, "NRestarts") == "0"
