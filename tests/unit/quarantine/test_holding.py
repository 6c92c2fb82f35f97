"""What couldn't be published is kept, if it is whole, within bounds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.ledger import quarantine
from tests.parts import ROUTE, Sent, mounted
from tests.unit.quarantine.scene import scene


def test_what_is_whole_is_kept_with_its_reason(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content of it")
        entry = route.entry(sent)
        assert entry.held
        assert "its name can't be used here: Not a directory: below" in entry.reason
        assert route.kept() == {sent.tid: sent.content}
        assert route.modes() == {0o600}
        assert route.parts.parts() == []
        assert quarantine.counts(route.ledger.reader()) == {ROUTE: 1}
    with scene(tmp_path) as route:  # and still is in the next life
        assert route.kept() == {sent.tid: sent.content}
        assert route.entry(sent).held


def test_what_is_not_what_was_sent_is_not_kept(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        sent = Sent(b"good bytes")
        records = sent.records()
        records[0] = replace(records[0], value=b"evil")
        route.parts.receiver.receive(records)
        entry = route.entry(sent)
        assert (entry.held, entry.note) == (0, quarantine.NOT_WHOLE)
        assert route.kept() == {}


def test_the_oldest_content_goes_when_it_is_full_and_its_entry_stays(tmp_path: Path) -> None:
    with scene(tmp_path, quarantine_max="25B") as route:
        route.parts.bounds.size = 25
        old, middle, new = route.set_aside(b"0123456789", b"abcdefghij", b"ABCDEFGHIJ")
        route.keeper._tidy()
        assert set(route.kept()) == {middle.tid, new.tid}
        assert not route.entry(old).held
        assert route.entry(old).note == quarantine.GIVEN_UP
        assert "Not a directory" in route.entry(old).reason
        (huge,) = route.set_aside(b"x" * 26, path=b"below/huge")
        route.keeper._tidy()
        assert set(route.kept()) == {middle.tid, new.tid}
        assert route.entry(huge).note == quarantine.TOO_LARGE


def test_a_limit_that_was_lowered_holds_at_once(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        old, new = route.set_aside(b"0123456789", b"abcdefghij")
        route.downloads.quarantine.size = 10
        route.keeper._tidy()
        assert set(route.kept()) == {new.tid}
        assert not route.entry(old).held


def test_what_is_sent_again_is_kept_once(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        first, again = route.set_aside(b"the same", b"the same")
        (other,) = route.set_aside(b"the same", path=b"below/other.trc")
        route.keeper._tidy()
        assert set(route.kept()) == {again.tid, other.tid}
        assert "came again" in route.entry(first).note


def test_entries_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(tmp_path) as route:
        monkeypatch.setattr(quarantine, "MOST_ENTRIES", 2)
        first, second, third = route.set_aside(b"1", b"2", b"3")
        route.keeper._tidy()
        assert set(route.entries()) == {second.tid, third.tid}
        assert set(route.kept()) == {second.tid, third.tid}
        assert route.state(first) == "quarantined"  # known still, should its records come again


def test_old_entries_go_with_their_content(tmp_path: Path) -> None:
    with scene(tmp_path) as route:
        (sent,) = route.set_aside(b"content")
        route.downloads.quarantine.history = -1.0
        route.keeper._expired_at = -1e9
        route.keeper._tidy()
        assert route.entries() == {}
        assert route.kept() == {}
        assert route.state(sent) == "quarantined"


def test_contents_give_way_to_files_that_need_the_space(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (
        mounted(tmp_path / "data", "tmpfs", "size=64k,mode=755"),
        scene(tmp_path, min_free="44KiB") as route,
    ):
        old, new = route.set_aside(b"o" * 5000, b"n" * 5000)
        assert set(route.kept()) == {old.tid, new.tid}
        route.keeper._tidy()
        assert set(route.kept()) == {new.tid}
        assert route.entry(old).note == quarantine.NO_SPACE
        assert route.entry(new).held
        (tmp_path / "data" / "of others").write_bytes(b"x" * 32768)
        route.keeper._tidy()
        assert set(route.kept()) == {new.tid}, "that wouldn't help"


def test_what_no_ledger_knows_stays(tmp_path: Path) -> None:
    """As after an older ledger was restored: the file may be the only one."""
    with scene(tmp_path) as route:
        route.set_aside(b"content")
        stranger = tmp_path / "data" / ".kfd" / "quarantine" / f"{os.urandom(16).hex()}-0"
        stranger.write_bytes(b"of another time")
        stranger.chmod(0o600)
        route.keeper._tidy()
        route.keeper._tidy()
        assert len(route.kept()) == 2
