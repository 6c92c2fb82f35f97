"""The systemd unit that kfd runs as, and what people type about it (systemd.unit(5)).

What is told of this process names :func:`own`; what kfdctl tells names :func:`of_socket`, that of
the daemon that it asked. Instances are ``kfd@NAME``, with /etc/kfd/NAME.yaml and
/run/kfd-NAME/kfd.sock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

UNIT = "kfd"
CONFIG = Path("/etc/kfd/kfd.yaml")
SOCKET = Path("/run/kfd/kfd.sock")
_INSTANCE = r"[A-Za-z0-9:_.\\-]+"
_OF_CGROUP = re.compile(rf"/({UNIT}(?:@[^/]+)?)\.service$", re.MULTILINE)
_OF_SOCKET = re.compile(rf"/run/{UNIT}-({_INSTANCE})/")


@cache
def own() -> str:
    """The unit of this process, an instance by its name; ``kfd`` if it is of none."""
    try:
        found = _OF_CGROUP.search(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    except OSError:
        return UNIT
    return found[1] if found else UNIT


def of_socket(path: Path) -> str:
    """The unit whose control socket this is, by where the shipped units have theirs; ``kfd`` if
    it is nowhere there."""
    return of_service(path) or UNIT


def of_service(socket: Path) -> str | None:
    """As :func:`of_socket`, however the path is written; None for a socket that no shipped unit
    has."""
    try:
        path = os.path.join(os.path.realpath(socket.parent), socket.name)
    except FileNotFoundError:  # the working directory is gone
        return None
    found = _OF_SOCKET.match(path)
    if found is not None:
        return f"{UNIT}@{found[1]}"
    return UNIT if path == str(SOCKET) else None


def of_config(path: Path) -> str | None:
    """The unit whose configuration this is, however it is written; None if it is no unit's."""
    for one in (path.parent.resolve() / path.name, path.resolve()):  # each may be a link
        if one.parent != CONFIG.parent.resolve() or one.suffix != CONFIG.suffix:
            continue
        if one.name == CONFIG.name:
            return UNIT
        if re.fullmatch(_INSTANCE, one.stem):
            return f"{UNIT}@{one.stem}"
    return None


def config_of(unit: str) -> Path:
    """The configuration that a unit reads."""
    _, at, instance = unit.partition("@")
    return CONFIG.with_name(f"{instance}{CONFIG.suffix}") if at else CONFIG


def start(unit: str) -> str:
    """How to start it."""
    return f"systemctl start {unit}"


def restart(unit: str | None = None) -> str:
    """How to restart it."""
    return f"systemctl restart {unit or own()}"


def log_of(unit: str | None = None) -> str:
    """How to read what it logs."""
    return f"journalctl -u {unit or own()}"


def drop_in(settings: str, unit: str | None = None) -> str:
    """How to add settings to its section ``[Service]``. A service gets a sandbox as it starts."""
    unit = unit or own()
    return f"systemctl edit {unit} -> [Service] {settings}; then {restart(unit)}"


def writable(directories: Iterable[Path], unit: str | None = None) -> str:
    """How to let the service write there. One that is missing when it starts doesn't keep it from
    starting (``-``): its route is degraded, the others go on."""
    return drop_in("ReadWritePaths=" + " ".join(f"-{one}" for one in directories), unit)
