"""What a daemon has open, to see that nothing stays open."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.integration.host import Host


def open_names(host: Host) -> list[str]:
    """What each of its descriptors is open on."""
    assert host.process is not None
    names = []
    for descriptor in Path(f"/proc/{host.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(os.readlink(descriptor))
    return names


def open_files(host: Host) -> Counter[str]:
    """How often each file is open, and how many sockets and pipes are. The ledger isn't counted:
    SQLite keeps descriptors for the next one who opens it, as many as there ever were at once."""
    ledger = str(host.state / "ledger.db")
    names = [re.sub(r":\[\d+\]", "", name) for name in open_names(host)]
    return Counter(name for name in names if not name.startswith(ledger))
