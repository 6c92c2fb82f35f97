"""Newest wins, and nobody else's file is replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.parts import GENERATION, Receiving, Sent, receiving, running_ledger
from tests.unit.publishing.streams import EDITS, Stream, conflict, identity, newer, states


def test_newer_version_replaces_the_older(parts: Receiving, stream: Stream) -> None:
    old = Sent(b"long old content")
    stream.receive(old)
    stream.receive(newer(old, b"new"))
    assert parts.visible() == {b"run.trc": b"new"}


def test_versions_in_one_batch_in_any_order(parts: Receiving, stream: Stream) -> None:
    first = Sent(b"1")
    second, third = newer(first, b"2"), newer(first, b"3", by=2)
    stream.receive(second, first, third)
    assert parts.visible() == {b"run.trc": b"3"}
    found = {tid: state for tid, (state, _) in states(parts.ledger).items()}
    assert found == {first.tid: "superseded", second.tid: "published", third.tid: "published"}


def test_older_version_never_replaces_even_when_the_newer_was_removed(
    parts: Receiving, stream: Stream
) -> None:
    old = Sent(b"old")
    stream.receive(newer(old, b"new"))
    (parts.root / "run.trc").unlink()
    stream.receive(old)
    assert parts.visible() == {}
    assert states(parts.ledger)[old.tid][0] == "superseded"


def test_removed_file_is_published_again_only_as_a_newer_version(
    parts: Receiving, stream: Stream
) -> None:
    sent = Sent(b"x")
    stream.receive(sent)
    (parts.root / "run.trc").unlink()
    stream.receive(sent)
    assert parts.visible() == {}
    stream.receive(newer(sent, b"y"))
    assert parts.visible() == {b"run.trc": b"y"}


def test_file_of_somebody_else_is_never_replaced(parts: Receiving, stream: Stream) -> None:
    (parts.root / "run.trc").write_bytes(b"theirs")
    sent = Sent(b"ours")
    stream.receive(sent)
    assert parts.visible() == {b"run.trc": b"theirs", conflict(sent): b"ours"}
    assert states(parts.ledger)[sent.tid][0] == "published"
    stream.receive(newer(sent, b"more"))
    assert parts.visible()[b"run.trc"] == b"theirs"
    assert sorted(parts.visible().values()) == [b"more", b"ours", b"theirs"]


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_what_changed_since_it_was_published_is_not_replaced(
    parts: Receiving, stream: Stream, edit: Callable[[Path], object]
) -> None:
    sent, path = Sent(b"ours"), parts.root / "run.trc"
    stream.receive(sent)
    edit(path)
    before = identity(path)
    later = newer(sent, b"newer")
    stream.receive(later)
    assert identity(path) == before
    assert (parts.root / os.fsdecode(conflict(later))).read_bytes() == b"newer"


def test_file_of_another_origin_is_not_replaced(parts: Receiving, stream: Stream) -> None:
    one = Sent(b"one")
    stream.receive(one)
    other = Sent(b"other", origin="xrd1", generation=GENERATION + 5)
    stream.receive(other)
    assert parts.visible() == {b"run.trc": b"one", conflict(other): b"other"}


def test_two_origins_with_one_name_in_one_batch(parts: Receiving, stream: Stream) -> None:
    one, other = Sent(b"one"), Sent(b"other", origin="xrd1")
    stream.receive(one, other)
    assert parts.visible() == {b"run.trc": b"one", conflict(other): b"other"}


def test_file_and_directory_of_one_name_in_one_batch(parts: Receiving, stream: Stream) -> None:
    file, below = Sent(b"file", b"a"), Sent(b"below", b"a/b")
    stream.receive(file, below)
    assert parts.visible() == {conflict(file): b"file", b"a/b": b"below"}
    late = Sent(b"late", b"a/b/c")
    stream.receive(late)
    state, reason = states(parts.ledger)[late.tid]
    assert state == "quarantined"
    assert "Not a directory" in reason
    assert parts.parts() == []


def test_foreign_file_under_the_conflict_name_is_not_taken_for_ours(
    parts: Receiving, stream: Stream
) -> None:
    sent = Sent(b"ours")
    (parts.root / "run.trc").write_bytes(b"theirs")
    (parts.root / os.fsdecode(conflict(sent))).write_bytes(b"theirs too")
    stream.receive(sent)
    assert set(parts.visible().values()) >= {b"theirs", b"theirs too"}
    assert b"ours" in parts.visible().values() or states(parts.ledger)[sent.tid][0] != "published"


@pytest.mark.parametrize("depth", [b"link/x", b"d/link/x", b"link/deep/x"])
def test_no_symlink_is_followed(
    parts: Receiving, stream: Stream, tmp_path: Path, depth: bytes
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (parts.root / "d").mkdir()
    for place in (parts.root, parts.root / "d"):
        (place / "link").symlink_to(outside)
    sent = Sent(b"x", depth)
    stream.receive(sent, Sent(b"fine", b"fine"))
    assert list(outside.iterdir()) == []
    assert parts.visible()[b"fine"] == b"fine"
    assert states(parts.ledger)[sent.tid][0] == "quarantined"


def test_link_to_a_file_is_not_followed(parts: Receiving, stream: Stream, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    (parts.root / "run.trc").symlink_to(outside)
    sent = Sent(b"ours")
    stream.receive(sent)
    assert outside.read_bytes() == b"outside"
    assert (parts.root / os.fsdecode(conflict(sent))).read_bytes() == b"ours"


def test_lost_ledger_takes_the_mark_for_proof(tmp_path: Path) -> None:
    sent = Sent(b"x")
    with (
        running_ledger(tmp_path / "first") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        Stream(parts).receive(sent, Sent(b"old", b"other"))
        inode = (parts.root / "run.trc").stat().st_ino
    with (
        running_ledger(tmp_path / "second") as ledger,
        receiving(ledger, tmp_path / "data") as parts,
    ):
        older = replace(sent, content=b"older", tid=os.urandom(16), generation=GENERATION - 1)
        Stream(parts).receive(older, sent, newer(Sent(b"old", b"other"), b"new"))
        assert parts.visible() == {b"run.trc": b"x", b"other": b"new"}
        assert (parts.root / "run.trc").stat().st_ino == inode
        found = {tid: state for tid, (state, _) in states(ledger).items()}
        assert (found[older.tid], found[sent.tid]) == ("superseded", "published")
