"""What systemd says of the service: why it doesn't run, and what its unit allows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kfd.config.accounts import Account
from kfd.control.examination import Check
from kfd.errors import ExitCode
from kfd.examination.checks import doubtful, well, wrong
from kfd.sandbox import PROPERTIES, Sandbox
from kfd.unit import CONFIG, UNIT, config_of, log_of, restart, start

_ASK_SECONDS = 5.0
_ASKED = (
    *("LoadState", "ActiveState", "UnitFileState", "Result", "ExecMainStatus", "NeedDaemonReload"),
    *("User", "DropInPaths", "LoadCredential", "LoadCredentialEncrypted", "SetCredential"),
)


@dataclass(frozen=True, slots=True)
class Service:
    """The unit as systemd knows it."""

    properties: Mapping[str, str]
    unit: str = UNIT

    @property
    def sandbox(self) -> Sandbox:
        return Sandbox(self.unit, self.properties)

    @property
    def account(self) -> Account | None:
        """As whom it runs; None where that user doesn't exist."""
        return Account.named(self.properties.get("User") or "root")

    @property
    def credentials(self) -> frozenset[str]:
        """The names of the credentials that it is given."""
        given = [self.properties.get(name, "") for name in _ASKED[-3:]]
        return frozenset(one.partition(":")[0] for text in given for one in text.split())

    def state(self) -> Check:
        """Does it run, and if it doesn't, why?"""
        active = self.properties.get("ActiveState", "")
        if active in ("active", "reloading"):
            return wrong(
                "service", "runs, but its socket isn't where kfdctl looks", "--socket FILE"
            )
        if active in ("activating", "deactivating"):
            return doubtful("service", f"is {active} just now", log_of(self.unit))
        status = self.properties.get("ExecMainStatus", "0")
        if self.properties.get("Result", "success") == "success":
            return wrong("service", "is stopped", start(self.unit))
        text, fix = _ended(status, self.properties["Result"], config_of(self.unit))
        return wrong("service", text, f"{fix}; {log_of(self.unit)} -n 20")

    def care(self) -> Iterator[Check]:
        """What is to be known of a unit that runs."""
        if self.properties.get("NeedDaemonReload") == "yes":
            text = "its unit was changed since systemd read it"
            yield doubtful("service", text, f"systemctl daemon-reload; {restart(self.unit)}")
        drop_ins = self.properties.get("DropInPaths", "").split()
        if self.properties.get("UnitFileState") == "disabled":
            yield doubtful("service", "doesn't start at boot", f"systemctl enable {self.unit}")
        else:
            shown = f"drop-ins: {', '.join(drop_ins)}" if drop_ins else "no drop-ins"
            yield well("service", f"{self.unit}.service, {shown}")


def _ended(status: str, result: str, config: Path) -> tuple[str, str]:
    """What an exit status of the daemon says, and what to do."""
    check = "kfdctl config check" if config == CONFIG else f"kfdctl config check {config}"
    known = {
        str(int(ExitCode.CONFIGURATION)): ("its configuration is refused", check),
        str(int(ExitCode.PERMISSION)): ("it may not use what it needs", check),
        str(int(ExitCode.BUG)): ("it ended with a bug", "report what its log says"),
    }
    return known.get(status, (f"it failed ({result}, status {status})", "read its log"))


def service(unit: str) -> Service | None:
    """The unit (``kfd``, ``kfd@NAME``), where systemd runs and knows it."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    wanted = ",".join((*_ASKED, *PROPERTIES))
    try:
        done = subprocess.run(  # noqa: S603 - nothing in it comes from anybody
            [systemctl, "show", f"{unit}.service", f"--property={wanted}"],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (line.partition("=") for line in done.stdout.splitlines())
    properties = {name: value for name, _, value in lines}
    return Service(properties, unit) if properties.get("LoadState") == "loaded" else None
