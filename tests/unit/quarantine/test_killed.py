"""Killed between any two steps: nothing half, nothing twice, nothing lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kfd.daemon.ledger import publications
from tests.parts import ROUTE, Sent, in_child
from tests.unit.publishing.streams import KILLED, newer
from tests.unit.publishing.test_killed import Killer
from tests.unit.quarantine.scene import Scene, scene

SENT = Sent(b"content of some chunks", b"below/run.trc")


def killed_everywhere(top: Path, life: Callable[[Path, int], None], after: Callable[[Path], None],
                      before: Callable[[Path], None]) -> None:  # fmt: skip
    at = 0
    while True:
        home = top / str(at)
        home.mkdir()
        before(home)
        code = in_child(lambda home=home, at=at: life(home, at))  # type: ignore[misc]
        after(home)
        if code != KILLED:
            assert code == at > 8
            return
        at += 1


def counted(route: Scene, at: int, work: Callable[[], object]) -> None:
    """Do it, and be killed before step ``at``; exits with the number of steps otherwise."""
    killer = Killer(route.ledger, at)
    route.ledger.write = killer._counted(route.ledger.write)  # type: ignore[method-assign]
    work()
    os._exit(killer.count)


def test_while_it_is_set_aside(tmp_path: Path) -> None:
    def life(home: Path, at: int) -> None:
        with scene(home) as route:
            route.block()
            counted(route, at, lambda: route.stream.receive(SENT))

    def after(home: Path) -> None:
        with scene(home) as route:
            assert set(route.kept()) <= {SENT.tid}
            route.block()
            route.stream.receive(SENT)  # what isn't on record is read again
            assert route.kept() == {SENT.tid: SENT.content}
            assert route.entry(SENT).held
            assert route.parts.parts() == []

    killed_everywhere(tmp_path, life, after, lambda _: None)


def set_aside(home: Path) -> None:
    with scene(home) as route:
        route.block()
        route.stream.receive(SENT)
        route.unblock()


@pytest.mark.parametrize("replacing", [False, True])
def test_while_it_is_released(tmp_path: Path, replacing: bool) -> None:
    new = newer(SENT, b"a newer version, refused")

    def before(home: Path) -> None:
        set_aside(home)
        if replacing:
            with scene(home) as route:
                route.release(SENT)
                (route.parts.root / "below").rename(route.parts.root / "aside")
                route.block()
                route.stream.receive(new)
                route.unblock()
                (route.parts.root / "aside").rename(route.parts.root / "below")

    one = new if replacing else SENT

    def life(home: Path, at: int) -> None:
        with scene(home) as route:
            counted(route, at, lambda: route.release(one))

    def after(home: Path) -> None:
        earlier = {SENT.path: SENT.content} if replacing else {}
        with scene(home) as route:
            assert publications.intents(route.ledger.reader(), ROUTE) == []
            if one.tid in route.entries():
                assert route.parts.visible() == earlier
                assert route.kept() == {one.tid: one.content}
                route.release(one)
            assert route.parts.visible() == {one.path: one.content}
            assert (route.entries(), route.kept()) == ({}, {})
            assert route.state(one) == "published"
            route.stream.receive(one)
            assert route.parts.visible() == {one.path: one.content}

    killed_everywhere(tmp_path, life, after, before)


def test_while_it_is_purged(tmp_path: Path) -> None:
    def life(home: Path, at: int) -> None:
        with scene(home) as route:
            number = route.entry(SENT).id
            counted(route, at, lambda: route.keeper._purge([number]))

    def after(home: Path) -> None:
        with scene(home) as route:
            if route.entries():
                assert route.kept() == {SENT.tid: SENT.content}
                route.keeper._purge([route.entry(SENT).id])
            assert (route.entries(), route.kept()) == ({}, {})
            route.stream.receive(SENT)
            assert route.parts.visible() == {}  # it has ended here

    at = 0
    while True:
        home = tmp_path / str(at)
        home.mkdir()
        set_aside(home)
        code = in_child(lambda home=home, at=at: life(home, at))  # type: ignore[misc]
        after(home)
        if code != KILLED:
            assert code == at > 1
            return
        at += 1
