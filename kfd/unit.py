"""The systemd unit that kfd runs as, and how people change what it allows (systemd.unit(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

UNIT = "kfd"
_OF_CGROUP = re.compile(rf"/({UNIT}(?:@[^/]+)?)\.service$", re.MULTILINE)
_OF_SOCKET = re.compile(rf"/run/{UNIT}-([^/]+)/")


@cache
def own() -> str:
    """The unit of this process, an instance by its name; ``kfd`` if it is of none."""
    try:
        found = _OF_CGROUP.search(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    except OSError:
        return UNIT
    return found[1] if found else UNIT


def of_socket(path: Path) -> str:
    """The unit whose control socket this is, by where the shipped units have theirs."""
    found = _OF_SOCKET.match(str(path))
    return f"{UNIT}@{found[1]}" if found else UNIT


def drop_in(settings: str, unit: str | None = None) -> str:
    """How to add settings to its section ``[Service]``. A service gets a sandbox as it starts."""
    unit = unit or own()
    return f"systemctl edit {unit} -> [Service] {settings}; then systemctl restart {unit}"


def writable(directories: Iterable[Path], unit: str | None = None) -> str:
    """How to let the service write there. One that is missing when it starts doesn't keep it from
    starting (``-``): its route is degraded, the others go on."""
    return drop_in("ReadWritePaths=" + " ".join(f"-{one}" for one in directories), unit)
