"""The order in which files become durable, step by step: a power cut isn't there for a test, but
what it would leave follows from this order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.ledger import Ledger, dropped, publications
from kfd.daemon.publishing import renames
from kfd.daemon.publishing.partials import DiskError
from kfd.daemon.publishing.settlement import settle
from tests.parts import GENERATION, ROUTE, Receiving, Sent
from tests.privileges import unprivileged


class Steps:
    """What is done to disk and ledger, in its order: ``fsync d``, ``rename``, ``intend`` ..."""

    CALLS = ("setxattr", "utime", "fchmod", "fdatasync", "fsync")
    OPERATIONS = (
        *((publications, name) for name in ("intend", "conclude", "reject", "settle")),
        (dropped, "note_dropped"),
    )

    def __init__(self, patch: pytest.MonkeyPatch, ledger: Ledger, top: Path) -> None:
        self.seen: list[str] = []
        self._top = os.fspath(top)
        for name in self.CALLS:
            patch.setattr(os, name, self._on_file(name, getattr(os, name)))
        rename = renames._renameat2
        patch.setattr(renames, "_renameat2", self._noting("rename", rename))
        for module, name in self.OPERATIONS:
            patch.setattr(module, name, self._noting(name, getattr(module, name)))

    def _noting(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **keys: Any) -> Any:
            self.seen.append(step)
            return call(*args, **keys)

        return noted

    def _on_file(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(fd: int, *args: Any, **keys: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{fd}")
            if path.startswith(self._top):
                self.seen.append(f"{name} {self._short(path)}")
            return call(fd, *args, **keys)

        return noted

    def _short(self, path: str) -> str:
        return "part" if path.endswith(".part") else os.path.relpath(path, self._top)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, parts: Receiving) -> Steps:
    """What is done from here on."""
    return Steps(monkeypatch, parts.ledger, parts.root)


def test_each_step_of_a_batch_is_durable_before_the_next(parts: Receiving, steps: Steps) -> None:
    sent = [Sent(b"one", b"d/one"), Sent(b"two", b"d/two")]
    parts.receiver.receive([sent[0].records(0)[0], sent[1].records(1)[0]])
    start = steps.seen.index("utime part")
    *before, one, other, last = steps.seen[start:]
    assert before == [
        *("utime part", "setxattr part", "fchmod part") * 2,
        *("fsync part", "fsync part"),
        "intend",
        *("rename", "rename"),
    ]
    assert {one, other} == {"fsync d", "fsync ."}
    assert last == "conclude"


def test_replaced_version_is_durable_like_a_new_one(parts: Receiving, steps: Steps) -> None:
    old = Sent(b"old")
    parts.receiver.receive(old.records(0))
    steps.seen.clear()
    newer = replace(old, content=b"newer", generation=GENERATION + 1, tid=os.urandom(16))
    parts.receiver.receive(newer.records(0, 1))
    order = [one for one in steps.seen if one != "utime part"]
    assert order[-6:] == [
        *("fchmod part", "fsync part", "intend", "rename", "fsync .", "conclude"),
    ]


def test_partial_is_marked_when_its_bytes_are_durable(parts: Receiving, steps: Steps) -> None:
    sent = Sent(bytes(20))
    parts.receiver.receive(sent.records()[:3])
    steps.seen.clear()
    parts.receiver.checkpoint(leaving=True)
    assert steps.seen == ["fdatasync part", "setxattr part", "fsync .kfd"]
    assert parts.receiver.progress()[0].open[0].chunks == 3


class KilledError(Exception):
    """Nothing goes on after it."""


def killed(*_: Any) -> None:
    raise KilledError


def test_interrupted_rename_is_durable_before_it_is_on_record(
    parts: Receiving, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(b"one", b"d/one")
    with monkeypatch.context() as patch:
        patch.setattr(publications, "conclude", killed)
        with pytest.raises(KilledError):
            parts.receiver.receive(sent.records())
    steps.seen.clear()
    settle(ROUTE, parts.destination, parts.ledger)
    assert set(steps.seen[:-1]) == {"fsync d", "fsync ."}
    assert steps.seen[-1] == "settle"
    assert parts.visible() == {b"d/one": b"one"}


def test_counts_are_on_record_before_what_would_make_them_duplicates(
    parts: Receiving, steps: Steps
) -> None:
    """Killed in between, the records come again, and are counted twice rather than never."""
    wrong = Sent(b"wrong", digest=bytes(32))
    junk = replace(Sent(b"x").records(0, 2)[0], headers=None)
    parts.receiver.receive([*wrong.records(0), junk])
    assert steps.seen[-2:] == ["note_dropped", "reject"]
    assert parts.receiver.safe_offsets()[0] == 3


def test_offset_does_not_pass_a_record_that_a_disk_refuses(parts: Receiving) -> None:
    """Killed while it waits for the disk, it must find the record again."""
    private = parts.root / ".kfd"
    private.chmod(0)
    with unprivileged(), pytest.raises(DiskError):
        parts.receiver.receive(Sent(b"one").records(0, 5))
    assert parts.receiver.positions()[0] <= 5
    assert parts.receiver.safe_offsets()[0] <= 5
    private.chmod(0o700)
    parts.receiver.resume()
    assert parts.visible() == {b"run.trc": b"one"}
    assert parts.receiver.safe_offsets()[0] == 6
