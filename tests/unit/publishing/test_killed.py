"""Killed between any two steps: the next start ends what was begun."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.ledger import Ledger, publications
from kfd.daemon.publishing import renames
from kfd.daemon.publishing.partials import sweep
from kfd.daemon.publishing.settlement import settle
from kfd.paths import conflict_name
from tests.parts import ROUTE, TOPIC, Sent, in_child, kill_self, receiving, running_ledger
from tests.unit.publishing.streams import KILLED, Stream, conflict, newer, states, without_marks


class Killer:
    """Counts what changes disk or ledger, and kills the process before the n-th such step."""

    CALLS = (
        *("open", "pwrite", "fchmod", "setxattr", "utime", "fsync", "mkdir", "rename"),
        *("link", "unlink", "close", "stat"),
    )

    def __init__(self, ledger: Ledger, at: int) -> None:
        self.count = 0
        self._at = at
        for name in self.CALLS:
            setattr(os, name, self._counted(getattr(os, name)))
        renames._renameat2 = self._counted(renames._renameat2)  # type: ignore[assignment]
        ledger.write_patiently = self._counted(ledger.write_patiently)  # type: ignore[method-assign]

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **keys: Any) -> Any:
            if self.count == self._at:
                kill_self()
            self.count += 1
            return call(*args, **keys)

        return counted


def without_noreplace() -> None:
    """The file system knows no RENAME_NOREPLACE. For a child only."""
    renames._renameat2 = lambda *_: -1  # type: ignore[assignment]
    renames.ctypes.get_errno = lambda: errno.EINVAL


class Scene:
    """A batch with a bit of everything, and a directory in which some of it was there before."""

    def __init__(self) -> None:
        self.before = [Sent(b"old version", b"d/replaced"), Sent(b"newest", b"superseded")]
        self.batch = [
            newer(self.before[0], b"new version"),
            replace(self.before[1], content=b"late", tid=os.urandom(16), generation=1),
            Sent(b"brand new", b"made/for/it"),
            Sent(b"", b"empty"),
            Sent(b"evades", b"taken"),
            Sent(b"bad", b"quarantined/below"),
        ]
        self.after = {
            b"d/replaced": b"new version",
            b"superseded": b"newest",
            b"made/for/it": b"brand new",
            b"empty": b"",
            b"taken": b"theirs",
            conflict_name(b"taken", self.batch[4].tid): b"evades",
            b"quarantined": b"a file",
        }
        self.earlier = {
            b"d/replaced": b"old version",
            b"superseded": b"newest",
            b"taken": b"theirs",
            b"quarantined": b"a file",
        }

    def life(self, top: Path, at: int, prepare: Callable[[], None]) -> int:
        """A daemon's life that is killed before step ``at``; its number of steps if it isn't."""
        return in_child(lambda: self._live(top, at, prepare))

    def _live(self, top: Path, at: int, prepare: Callable[[], None]) -> None:
        with running_ledger(top / "state") as ledger, receiving(ledger, top / "data") as parts:
            prepare()
            stream = Stream(parts)
            stream.receive(*self.before)
            (parts.root / "taken").write_bytes(b"theirs")
            (parts.root / "quarantined").write_bytes(b"a file")
            killer = Killer(ledger, at)
            stream.receive(*self.batch)
            os._exit(killer.count)

    def live_again(self, top: Path) -> None:
        """The next life: settle, then read again what isn't known to have ended."""
        with running_ledger(top / "state") as ledger, receiving(ledger, top / "data") as parts:
            settle(ROUTE, parts.destination, ledger)
            assert publications.intents(ledger.reader(), ROUTE) == []
            sweep(parts.destination, TOPIC, 0)
            published = self.published(ledger)
            for name, content in parts.visible().items():
                assert content in (self.earlier.get(name), self.after.get(name))
                if name not in self.earlier:
                    assert name in published  # nothing is seen that isn't on record
            Stream(parts).receive(*self.before, *self.batch)
            assert parts.visible() == self.after
            assert parts.parts() == []
            found = {tid: state for tid, (state, _) in states(ledger).items()}
            wanted = ["published", "superseded", "published", "published", "published"]
            assert [found[one.tid] for one in self.batch] == [*wanted, "quarantined"]
            assert self.published(ledger) >= published

    @staticmethod
    def published(ledger: Ledger) -> set[bytes]:
        rows = ledger.reader().execute("SELECT name FROM incoming WHERE state = 'published'")
        return {name for (name,) in rows}


@pytest.mark.parametrize("prepare", [lambda: None, without_noreplace], ids=["rename", "link"])
def test_killed_between_any_two_steps(tmp_path: Path, prepare: Callable[[], None]) -> None:
    scene = Scene()
    at = 0
    while (code := scene.life(tmp_path / str(at), at, prepare)) == KILLED:
        scene.live_again(tmp_path / str(at))
        at += 1
    assert code == at > 30
    scene.live_again(tmp_path / str(at))


def test_killed_without_marks(tmp_path: Path) -> None:
    scene = Scene()
    with without_marks(tmp_path) as disk:
        at = 0
        while (code := scene.life(disk / str(at), at, lambda: None)) == KILLED:
            scene.live_again(disk / str(at))
            at += 3
        assert code > 30


def test_interrupted_publication_gives_way_to_what_took_its_name(tmp_path: Path) -> None:
    """Killed before the rename; somebody makes a file of that name; then the next start."""
    sent = Sent(b"ours")

    def life() -> None:
        with (
            running_ledger(tmp_path / "state") as ledger,
            receiving(ledger, tmp_path / "data") as parts,
        ):
            renames._renameat2 = lambda *_: kill_self()  # type: ignore[assignment]
            Stream(parts).receive(sent)

    assert in_child(life) == KILLED
    (tmp_path / "data" / "run.trc").write_bytes(b"theirs")
    with (
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        settle(ROUTE, parts.destination, ledger)
        assert states(ledger) == {}
        sweep(parts.destination, TOPIC, 0)
        Stream(parts).receive(sent)
        assert parts.visible() == {b"run.trc": b"theirs", conflict(sent): b"ours"}
