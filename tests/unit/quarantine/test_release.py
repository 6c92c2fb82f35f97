"""A release is a publication like any other: over nothing but an older version, once, told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kfd.daemon.ledger import quarantine
from kfd.daemon.ledger.quarantine import Entry
from kfd.daemon.quarantine.keeper import Keeper
from kfd.daemon.quarantine.release import Release
from kfd.errors import KfdError
from tests.parts import ROUTE, Sent
from tests.unit.publishing.streams import conflict, newer
from tests.unit.quarantine.scene import scene


def test_what_is_released_is_published_as_it_was_sent(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content of it")
        told = route.receipts()
        with pytest.raises(KfdError, match="Not a directory"):
            route.release(sent)
        assert route.entry(sent).held
        assert route.modes() == {0o600}
        route.unblock()
        assert Release(route.entry(sent), route.route, route.ledger).prospect() == sent.path
        assert route.release(sent) == sent.path
        assert route.parts.visible() == {sent.path: sent.content}
        status = (tmp_path / "data" / os.fsdecode(sent.path)).stat()
        assert status.st_mtime_ns == sent.begin.mtime_ns
        assert status.st_mode & 0o777 == sent.begin.mode & 0o640
        assert (route.entries(), route.kept(), route.state(sent)) == ({}, {}, "published")
        assert route.receipts() == told + 1


def test_another_name(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content")
        (route.parts.root / "taken").write_bytes(b"theirs")
        with pytest.raises(KfdError, match="taken is the name of another file"):
            route.release(sent, b"taken")
        assert route.release(sent, b"by hand/run.trc") == b"by hand/run.trc"
        assert route.parts.visible()[b"by hand/run.trc"] == b"content"
        assert route.parts.visible()[b"taken"] == b"theirs"


def test_a_foreign_file_that_took_its_name_stays(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"ours")
        route.unblock()
        route.blocker.mkdir()
        (route.blocker / "run.trc").write_bytes(b"theirs")
        assert route.release(sent) == conflict(sent)
        assert route.parts.visible() == {sent.path: b"theirs", conflict(sent): b"ours"}


def test_an_older_version_is_replaced_and_a_newer_one_never(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        old, middle = route.set_aside(b"old", b"middle")
        route.unblock()
        route.stream.receive(newer(middle, b"new"))
        with pytest.raises(KfdError, match="a newer version of the file was published"):
            route.release(middle)
        assert route.parts.visible() == {old.path: b"new"}
        assert route.release(old, b"old.trc") == b"old.trc"  # beside it, by hand
        assert route.parts.visible() == {old.path: b"new", b"old.trc": b"old"}
        assert set(route.entries()) == {middle.tid}


def test_it_replaces_what_was_published_before(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        first = Sent(b"first", b"below/run.trc")
        second = newer(first, b"second")
        route.stream.receive(first)
        (route.parts.root / "below").rename(route.parts.root / "aside")
        route.block()
        route.stream.receive(second)
        route.unblock()
        (route.parts.root / "aside").rename(route.parts.root / "below")
        assert route.release(second) == first.path
        assert route.parts.visible() == {first.path: b"second"}
        assert route.kept() == {}


def test_released_twice(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content")
        route.unblock()
        entry = route.entry(sent)
        Release(entry, route.route, route.ledger).publish(None)
        with pytest.raises(KfdError):
            Release(entry, route.route, route.ledger).publish(None)
        assert route.parts.visible() == {sent.path: b"content"}


def test_content_that_somebody_took_away(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content")
        route.unblock()
        for one in (tmp_path / "data" / ".kfd" / "quarantine").iterdir():
            one.unlink()
        with pytest.raises(KfdError, match=r"isn't in .*quarantine"):
            route.release(sent)
        assert route.entry(sent).state == "quarantined"


def test_records_that_come_again_are_known(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content")
        route.unblock()
        route.stream.receive(sent)
        assert route.parts.visible() == {}
        route.release(sent)
        route.stream.receive(sent)
        assert route.parts.visible() == {sent.path: b"content"}


def test_purged(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        one, other = route.set_aside(b"12345", b"1234567")
        assert route.keeper._purge([route.entry(one).id]) == (1, 5)
        assert set(route.kept()) == {other.tid}
        assert set(route.entries()) == {other.tid}
        assert route.state(one) == "quarantined"
        assert quarantine.held(route.ledger.reader(), ROUTE) == {(other.tid, 0)}


@pytest.mark.parametrize(
    ("call", "asks"),
    [
        ("mkdir", lambda keeper, entry: keeper.prospect(entry)),
        ("chmod", lambda keeper, entry: keeper.release(entry, None)),
        ("unlink", lambda keeper, entry: keeper.purge([entry.id])),
    ],
    ids=["show", "release", "purge"],
)
def test_disk_that_refuses_is_told_and_ends_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    asks: Callable[[Keeper, Entry], object],
) -> None:
    """No disk here can be made to refuse just this, so the system call does."""

    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with scene(tmp_path) as at:
        [sent] = at.set_aside(b"content")
        at.unblock()
        entry = at.entry(sent)
        deaths: list[object] = []
        at.keeper.start(lambda *death: deaths.append(death))
        try:
            with monkeypatch.context() as disk:
                disk.setattr(os, call, refuses)
                with pytest.raises(KfdError) as caught:
                    asks(at.keeper, entry)
            assert caught.value.fix
            assert at.keeper.purge([entry.id]) is not None  # it serves on
        finally:
            at.keeper.stop()
            at.keeper.join(10)
        assert deaths == []
