"""Somebody edits what is being replaced, at any moment: nothing of theirs is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.ledger import publications
from kfd.daemon.publishing import renames
from kfd.daemon.publishing.partials import DiskError, sweep
from kfd.daemon.publishing.settlement import settle
from tests.parts import (
    ROUTE,
    TOPIC,
    Receiving,
    Sent,
    in_child,
    kill_self,
    receiving,
    running_ledger,
)
from tests.unit.publishing.streams import (
    EDITS,
    KILLED,
    Stream,
    conflict,
    go_on,
    identity,
    newer,
    states,
    without_exchange,
)


def edit_when_intended(monkeypatch: pytest.MonkeyPatch, edit: Callable[[], object]) -> None:
    """Between the look and the rename are fsyncs and a transaction: seconds on a busy disk."""
    intend = publications.intend

    def edit_and_intend(db: Any, batch: Any) -> None:
        edit()
        intend(db, batch)

    monkeypatch.setattr(publications, "intend", edit_and_intend)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_while_a_batch_is_prepared_is_not_lost(
    parts: Receiving,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Path], object],
    exchange: bool,
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    seen: list[tuple[int, int, int]] = []
    edit_when_intended(monkeypatch, lambda: (edit(path), seen.append(identity(path))))
    if not exchange:
        without_exchange(monkeypatch)
    later = newer(sent, b"newer")
    stream.receive(later)
    assert [identity(path)] == seen
    assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"
    assert parts.parts() == []
    assert states(parts.ledger)[later.tid][0] == "published"


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
def test_older_version_removed_while_a_batch_is_prepared(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    sent = Sent(b"ours")
    stream.receive(sent)
    edit_when_intended(monkeypatch, (parts.root / "run.trc").unlink)
    if not exchange:
        without_exchange(monkeypatch)
    stream.receive(newer(sent, b"newer"))
    assert list(parts.visible().values()) == [b"newer"]
    assert parts.parts() == []


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_is_not_lost_when_killed_amid_an_exchange(
    tmp_path: Path, edit: Callable[[Path], object]
) -> None:
    """What came out of the exchange is somebody's work, and waits under a partial's name."""
    sent, path = Sent(b"ours"), tmp_path / "data" / "run.trc"
    later = newer(sent, b"newer")

    def life() -> None:
        with (
            running_ledger(tmp_path / "state") as ledger,
            receiving(ledger, tmp_path / "data") as parts,
        ):
            stream = Stream(parts)
            stream.receive(sent)
            rename = renames._renameat2

            def exchange_and_die(*args: Any) -> int:
                edit(path)
                rename(*args)
                kill_self()
                return 0

            renames._renameat2 = exchange_and_die  # type: ignore[assignment]
            stream.receive(later)

    assert in_child(life) == KILLED
    (part,) = (tmp_path / "data" / ".kfd").glob("*.part")
    theirs = identity(part)
    with (
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        settle(ROUTE, parts.destination, ledger)
        sweep(parts.destination, TOPIC, 0)
        Stream(parts).receive(sent, later)
        assert identity(path) == theirs
        assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"


def edit_at_the_exchange(
    monkeypatch: pytest.MonkeyPatch, edit: Callable[[], object], fails: int = -1
) -> None:
    """The last moment: after the look, before the exchange. Call number ``fails`` gives EIO."""
    rename, calls = renames._renameat2, iter(range(100))

    def edit_and_rename(*args: Any) -> int:
        call = next(calls)
        if call == 0:
            edit()
        if call == fails:
            raise OSError(errno.EIO, "Input/output error")
        return int(rename(*args))

    monkeypatch.setattr(renames, "_renameat2", edit_and_rename)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_in_the_last_moment_is_put_back(
    parts: Receiving,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Path], object],
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    seen: list[tuple[int, int, int]] = []
    edit_at_the_exchange(monkeypatch, lambda: (edit(path), seen.append(identity(path))))
    later = newer(sent, b"newer")
    stream.receive(later)
    assert [identity(path)] == seen
    assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"
    assert parts.parts() == []


def test_edit_is_not_lost_when_the_disk_fails_amid_an_exchange(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    edit_at_the_exchange(monkeypatch, lambda: path.write_bytes(b"an hour of work"), fails=1)
    later = newer(sent, b"newer")
    start = stream.offset
    with pytest.raises(DiskError):
        stream.receive(later)
    go_on(parts, later.records(offset=start))
    assert parts.visible()[b"run.trc"] == b"an hour of work"
    assert b"newer" in parts.visible().values()


def test_name_taken_while_a_batch_is_prepared(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_when_intended(monkeypatch, lambda: (parts.root / "run.trc").write_bytes(b"theirs"))
    sent = Sent(b"ours")
    stream.receive(sent)
    assert parts.visible() == {b"run.trc": b"theirs", conflict(sent): b"ours"}
    row = parts.ledger.reader().execute("SELECT name FROM incoming").fetchone()
    assert row == (conflict(sent),)
