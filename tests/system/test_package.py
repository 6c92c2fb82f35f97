"""The Debian package of ``scripts/deb``: lintian passes it, and it installs, runs, upgrades and
goes without a trace in a real Debian."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import CHECKOUT, eventually, unavailable
from tests.system.container import Container, debian_root, require_container

pytestmark = pytest.mark.systemd

CONFIGURATION = "/etc/kfd/kfd.yaml"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the README says; the script fails if lintian finds an error."""
    if os.geteuid() != 0:
        unavailable("the tools to build a package are installed by root")
    directory = tmp_path_factory.mktemp("package")
    script = CHECKOUT / "scripts" / "deb"
    command = ["sh", script, directory]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


@pytest.fixture
def machine(package: Path, configuration: Path) -> Iterator[Container]:
    require_container()
    shared = {"/package": package.parent, "/configuration": configuration}
    with Container(debian_root(), shared) as machine:
        yield machine
        print(machine.run("journalctl", "-u", "kfd", check=False).stdout)  # shown if it failed


def _shown(machine: Container, name: str) -> str:
    return machine.run("systemctl", "show", "kfd", "--value", "-p", name).stdout.strip()


def test_package_installs_runs_upgrades_and_goes(machine: Container, package: Path) -> None:
    install = ("dpkg", "--install", f"/package/{package.name}")
    machine.run(*install)
    assert _shown(machine, "ActiveState") == "inactive"  # nobody has configured it yet
    assert machine.run("stat", "-c", "%a %U %G", CONFIGURATION).stdout.strip() == "640 root kfd"
    for page in ("man8/kfd.8", "man1/kfdctl.1", "man5/kfd.yaml.5"):
        machine.run("test", "-s", f"/usr/share/man/{page}.gz")
    for shared in ("prometheus/kfd-alerts.yaml", "grafana/kfd.json"):
        machine.run("test", "-s", f"/usr/share/kfd/{shared}")
    assert "_kfdctl" in machine.run(
        "cat", "/usr/share/bash-completion/completions/kfdctl"
    ).stdout  # fmt: skip

    _configure(machine)
    machine.run("systemctl", "start", "kfd")
    machine.run("kfdctl", "send", "/usr/bin/env")
    eventually(lambda: _is_published(machine, "env"))

    before = _shown(machine, "MainPID")
    machine.run(*install)  # as an upgrade does
    assert _shown(machine, "ActiveState") == "active"
    assert _shown(machine, "MainPID") not in {before, "0"}
    assert machine.run("cmp", "/configuration/kfd.yaml", CONFIGURATION, check=False).returncode == 0
    machine.run("kfdctl", "send", "/usr/bin/cmp")
    eventually(lambda: _is_published(machine, "cmp"))

    machine.run("systemctl", "enable", "kfd")
    machine.run("dpkg", "--remove", "kfd")
    assert machine.run("systemctl", "is-active", "kfd", check=False).stdout.strip() == "inactive"
    link = "/etc/systemd/system/multi-user.target.wants/kfd.service"
    assert machine.run("test", "-L", link, check=False).returncode == 1
    machine.run("mkdir", "-p", "/etc/credstore")
    password = "/etc/credstore/kfd.kafka-password"
    machine.run("touch", password)
    machine.run("dpkg", "--purge", "kfd")
    for path in ("/usr/lib/kfd", "/usr/bin/kfd", "/etc/kfd", "/var/lib/kfd", password):
        assert machine.run("test", "-e", path, check=False).returncode == 1, path
    assert _is_published(machine, "env")  # what was received stays


def _configure(machine: Container) -> None:
    machine.run("cp", "/configuration/kfd.yaml", CONFIGURATION)
    machine.run("install", "-d", "-o", "kfd", "-g", "kfd", "/srv/scope", "/srv/lab")
    drop_in = "/etc/systemd/system/kfd.service.d"
    machine.run("mkdir", "-p", drop_in)
    text = "[Service]\\nReadWritePaths=-/srv/lab\\n"
    machine.run("sh", "-c", f"printf '{text}' >{drop_in}/paths.conf")
    machine.run("systemctl", "daemon-reload")


def _is_published(machine: Container, name: str) -> bool:
    looked = machine.run("cmp", f"/usr/bin/{name}", f"/srv/lab/{name}", check=False)
    return looked.returncode == 0
