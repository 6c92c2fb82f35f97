"""kfd as ``scripts/install`` leaves it on a machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support import CHECKOUT, eventually
from tests.system.container import Container

KFDCTL = "/usr/local/bin/kfdctl"
INSTALL = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels", "sh", "/checkout/scripts/install")


def build_wheels(directory: Path) -> None:
    """All that pip needs to install the checkout, so that the machine needs no registry."""
    source = directory / "source"
    shutil.copytree(CHECKOUT / "kfd", source / "kfd")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    # PEP 517: Debian's virtual environments have no `wheel` of their own
    options = ["--quiet", "--use-pep517", "--wheel-dir", str(directory / "wheels")]
    command = [sys.executable, "-m", "pip", "wheel", *options, f"{source}[sql]", "setuptools>=68"]
    subprocess.run(command, check=True)


class Service:
    """One unit of kfd on a machine, as its administrator handles it."""

    def __init__(self, machine: Container, unit: str = "kfd", directory: str = "kfd") -> None:
        self.machine = machine
        self.unit = unit
        self.directory = directory  # below /run and /var/lib
        self._configuration = f"/etc/kfd/{unit.partition('@')[2] or unit}.yaml"
        self._cursor = self._journal_end()

    def clear(self) -> None:
        """Stopped, without state, drop-ins and files."""
        self.systemctl("stop", check=False)
        self.systemctl("reset-failed", check=False)
        drop_ins = f"/etc/systemd/system/{self.unit}.service.d"
        self.machine.run("rm", "-rf", f"/var/lib/{self.directory}", drop_ins, "/srv")
        self.machine.run("install", "-d", "-o", "kfd", "-g", "kfd", "/srv/scope", "/srv/lab")
        self.drop_in("ReadWritePaths=/srv/lab")
        self._cursor = self._journal_end()

    def _journal_end(self) -> str:
        """Where the journal ends now."""
        told = self.machine.run("journalctl", "-q", "-n", "1", "-o", "cat", "--show-cursor").stdout
        return told.rpartition("-- cursor: ")[2].strip()

    def drop_in(self, *settings: str) -> None:
        """What ``systemctl edit`` writes."""
        text = "\n".join(("[Service]", *settings, ""))
        directory = self.machine.path(f"/etc/systemd/system/{self.unit}.service.d")
        directory.mkdir(parents=True, exist_ok=True)
        number = len(list(directory.iterdir()))
        (directory / f"{number}.conf").write_text(text)
        self.machine.run("systemctl", "daemon-reload")

    def configure(self, bootstrap: str, topic: str, **settings: Any) -> None:
        """Write its kfd.yaml: /srv/scope is sent, and published in /srv/lab."""
        upload = {"directory": "/srv/scope", "topic": topic, **settings.pop("upload", {})}
        archive = {"directory": "/srv/lab", "topic": topic, "layout": "{path}"}
        downloads = settings.pop("downloads", {"archive": archive})
        kafka = {"bootstrap.servers": bootstrap, **settings.pop("kafka", {})}
        routes = {"uploads": {"scope": upload}, "downloads": downloads}
        self.write(yaml.safe_dump({"kafka": kafka, **routes, **settings}))

    def write(self, text: str) -> None:
        """Write its kfd.yaml as it is given."""
        path = self.machine.path(self._configuration)
        path.write_text(text)
        self.machine.run("chown", "root:kfd", self._configuration)
        path.chmod(0o640)

    def systemctl(self, verb: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run("systemctl", verb, self.unit, check=check)

    def shown(self, name: str) -> str:
        """A property, as ``systemctl show`` has it."""
        asked = ("systemctl", "show", self.unit, "--value", "-p", name)
        return self.machine.run(*asked).stdout.strip()

    def ctl(
        self, *arguments: str, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``kfdctl`` of a user. As the owner of the group that ``runuser`` gives."""
        socket = ("--socket", f"/run/{self.directory}/kfd.sock")
        return self.machine.run(
            "runuser", "-u", user, "--", KFDCTL, *arguments, *socket, check=check
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ctl("status", "--json").stdout)["status"]
        return found

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The entries since this object was made, or cleared, that have these fields."""
        # chosen here: with a match, journalctl 252 leaves out the first one after a cursor
        told = self.machine.run("journalctl", "-q", "-o", "json", f"--after-cursor={self._cursor}")
        entries = [json.loads(line) for line in told.stdout.splitlines()]
        unit = f"{self.unit}.service"
        ours = [one for one in entries if unit in {one.get("_SYSTEMD_UNIT"), one.get("UNIT")}]
        return [one for one in ours if all(_has(one, match) for match in matches)]

    def await_journal(self, *matches: str) -> list[dict[str, Any]]:
        """As :meth:`journal`, once there is something: the journal takes its time."""
        return eventually(lambda: self.journal(*matches), 30, 0.2)

    def errors(self) -> list[str]:
        """What kfd itself calls an error."""
        return [one["MESSAGE"] for one in self.journal("SYSLOG_IDENTIFIER=kfd", "PRIORITY=3")]

    def await_published(self, name: str, content: bytes) -> None:
        path = self.machine.path(f"/srv/lab/{name}")
        eventually(lambda: path.exists() and path.read_bytes() == content, 60, 0.1)

    def await_state(self, state: str) -> None:
        eventually(lambda: self.shown("ActiveState") == state, 60, 0.1)


def _has(entry: dict[str, Any], match: str) -> bool:
    name, _, wanted = match.partition("=")
    found = entry.get(name)
    return wanted in found if isinstance(found, list) else wanted == found
