"""What tests of faults in data look at: the topic, the disk outside, memory, names, ledgers."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.judge import Judge
from tests.integration.daemon import Daemon
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.integration.records import complete, transfers_on

_OWN = {b"ledger.db-wal", b"ledger.db-shm"}  # come and go by themselves
_CONFLICT = re.compile(rb"\.conflict-[0-9a-f]{32}")


def whole_on_topic(bootstrap: str, topic: str) -> Counter[tuple[bytes, str]]:
    """How often each (path, content) is on the topic as a complete transfer."""
    whole = complete(transfers_on(bootstrap, topic).values())
    return Counter((one.begin["path"], digest(one.content)) for one in whole)


@contextmanager
def nothing_outside(around: Path, host: Host) -> Iterator[None]:
    """Fail if anything was made below ``around`` that is not in ``host.down``."""
    before = _everything(around)
    yield
    new = _everything(around) - before
    inside = os.fsencode(host.down) + b"/"
    outside = {path for path in new if not path.startswith(inside)}
    assert {path for path in outside if os.path.basename(path) not in _OWN} == set()


def _everything(directory: Path) -> set[bytes]:
    return {os.path.join(p, n) for p, d, f in os.walk(os.fsencode(directory)) for n in d + f}


def source_of(published: bytes) -> bytes:
    """The path at the source of which this is published, be it under a conflict name."""
    return _CONFLICT.sub(b"", published)


def conflicts(host: Host) -> list[bytes]:
    """What was published under another name than its own."""
    return sorted(path for path in host.published() if source_of(path) != path)


def none_came_twice(judge: Judge) -> None:
    """By the kernel alone, where no ledger knows any more: no transfer got a name twice."""
    for host, arrivals in zip(judge.receivers, judge.arrivals, strict=True):
        twice = [tid.hex() for tid, count in arrivals.times().items() if count > 1]
        assert not twice, f"{host.down}: published again: {twice[:20]}"


def arriving(host: Host) -> bool:
    """Whether some file is only half there; sooner seen than in the status."""
    private = host.down / ".kfd"
    return private.exists() and any(private.glob("*.part"))


def back_up(daemon: Daemon, name: str = "backup") -> Path:
    """A copy of the state of a daemon that doesn't run."""
    assert not daemon.running
    copy = daemon.state.with_name(name)
    shutil.copytree(daemon.state, copy)
    return copy


def restore(daemon: Daemon, backup: Path) -> None:
    """Put a copy in the place of the state; the daemon doesn't run."""
    lose(daemon)
    shutil.copytree(backup, daemon.state)


def lose(daemon: Daemon) -> None:
    """Remove the state of a daemon that doesn't run, ledger and all."""
    assert not daemon.running
    shutil.rmtree(daemon.state)
