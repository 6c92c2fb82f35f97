"""Files that come in, one version after another, and what is then there."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import Ledger
from kfd.daemon.publishing import renames
from kfd.paths import conflict_name
from tests.parts import Receiving, Sent, mounted

KILLED = -9


class Stream:
    """Records of partition 0, one after the other."""

    def __init__(self, parts: Receiving) -> None:
        self.parts = parts
        self.offset = 0

    def receive(self, *sent: Sent) -> None:
        """All of these in one batch."""
        batch = []
        for one in sent:
            records = one.records(offset=self.offset)
            self.offset += len(records)
            batch += records
        self.parts.receiver.receive(batch)


def go_on(parts: Receiving, records: list[Record]) -> None:
    """After a disk that failed: the rest, and what has to be read again."""
    parts.receiver.resume()
    parts.receiver.try_deferred()
    for partition, offset in parts.receiver.take_rewinds().items():
        again = [r for r in records if r.partition == partition and r.offset >= offset]
        parts.receiver.receive(again)


def states(ledger: Ledger) -> dict[bytes, tuple[str, str]]:
    rows = ledger.reader().execute("SELECT tid, state, reason FROM incoming").fetchall()
    return {tid: (state, reason) for tid, state, reason in rows}


def newer(sent: Sent, content: bytes, by: int = 1) -> Sent:
    return replace(sent, content=content, tid=os.urandom(16), generation=sent.generation + by)


def conflict(sent: Sent) -> bytes:
    return conflict_name(sent.path, sent.tid)


def identity(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns


EDITS = {
    "content": lambda path: path.write_bytes(b"an hour of work"),
    "mtime": lambda path: os.utime(path, ns=(1, 1)),
    "file": lambda path: (path.unlink(), path.write_bytes(b"made anew")),
    "symlink": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "directory": lambda path: (path.unlink(), path.mkdir()),
    "fifo": lambda path: (path.unlink(), os.mkfifo(path)),
}


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS, some FUSE file systems and old kernels refuse both flags of renameat2."""
    monkeypatch.setattr(renames, "_renameat2", lambda *_: -1)
    monkeypatch.setattr(renames.ctypes, "get_errno", lambda: errno.EINVAL)


def without_marks(tmp_path: Path) -> Any:
    """A file system that keeps no user xattrs."""
    return mounted(tmp_path / "disk", "ramfs", "mode=755")
