"""Durable partials: what is gone on with after a restart, and what isn't believed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.publishing.partials import DiskError, sweep
from kfd.offsets import Progress
from tests.parts import CHUNK, TOPIC, TOPIC_ID, Sent, receiving, running_ledger
from tests.unit.resuming.lives import LARGE, SMALL, at, bad, life, said, state


@pytest.mark.parametrize("second_ledger", ["state", "another"], ids=["same ledger", "lost ledger"])
def test_nothing_is_read_twice(tmp_path: Path, second_ledger: str) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
    with life(tmp_path, committed, ledger=second_ledger) as parts:
        assert parts.start == 4
        assert parts.receiver.safe_offsets()[0] == 0
        parts.receiver.receive(records[4:])
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}


def test_killed_before_the_rest_was_read_again(tmp_path: Path) -> None:
    """What is committed meanwhile leaves the rest where it is, not where it was read up to."""
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive([*records[4:6], *SMALL.records(0, 6)])
        committed = said(parts)
    for _ in range(2):
        with life(tmp_path, committed) as parts:
            assert parts.start == 4
            committed = said(parts)
    with life(tmp_path, committed) as parts:
        parts.receiver.receive(records[4:])
        assert parts.visible()[b"large"] == LARGE.content
        assert bad(parts) == {}


def test_published_file_keeps_no_mark_of_a_partial(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        records = LARGE.records()
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive(records[4:])
        assert os.listxattr(parts.root / "large") == ["user.kfd.transfer"]


def test_what_came_after_a_checkpoint_is_read_again_from_there(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive([*records[4:6], *SMALL.records(0, 6)])
        committed = said(parts)
    with life(tmp_path, committed) as parts:
        assert parts.start == 4
        assert parts.partials.descriptor(next(iter(parts.receiver.held())))
        assert (parts.root / ".kfd" / parts.parts()[0]).stat().st_size == 4 * CHUNK
        parts.receiver.receive([*records[4:6], *SMALL.records(0, 6), *at(records[6:], 7)])
        assert parts.visible() == {b"large": LARGE.content, b"small": SMALL.content}
        assert bad(parts) == {}  # SMALL came twice, but its end was read before


def test_partial_older_than_the_commit_is_gone_on_with_from_its_first_record(
    tmp_path: Path,
) -> None:
    """A mark that a power cut took back, or a directory restored from a backup."""
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:2])
        parts.receiver.checkpoint(leaving=True)
        (name,) = parts.parts()
        mark = os.getxattr(parts.root / ".kfd" / name, "user.kfd.partial")
        parts.receiver.receive(records[2:5])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
        os.setxattr(parts.root / ".kfd" / name, "user.kfd.partial", mark)
    with life(tmp_path, committed) as parts:
        assert parts.start == 0
        parts.receiver.receive(records)
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}


def test_partials_without_a_commit_to_believe(tmp_path: Path) -> None:
    """What the commit said is lost, or isn't valid: what is held is passed over."""
    records = LARGE.records(offset=5)
    with life(tmp_path, at=5) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
    with life(tmp_path, at=5) as parts:
        assert parts.start == 5
        parts.receiver.receive(records)
        assert parts.visible() == {b"large": LARGE.content}
        assert bad(parts) == {}


def test_partial_of_what_began_before_the_commit_is_removed(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
    with life(tmp_path, at=1) as parts:
        assert parts.parts() == []
        assert parts.receiver.open_transfers() == []


def test_partial_of_what_has_ended_elsewhere_is_removed(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
    elsewhere = Progress(TOPIC_ID, 0, 20, {})
    with life(tmp_path, elsewhere) as parts:
        assert parts.parts() == []
        assert parts.start == 20


@pytest.mark.parametrize("spoil", ["topic id", "mark", "name", "none"])
def test_partials_that_are_not_to_be_believed_are_removed(tmp_path: Path, spoil: str) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
        path = parts.root / ".kfd" / parts.parts()[0]
    if spoil == "mark":
        os.setxattr(path, "user.kfd.partial", b"\1odd")
    elif spoil == "name":
        path.rename(path.with_name(f"{bytes(16).hex()}-0.part"))
    elif spoil == "none":
        os.removexattr(path, "user.kfd.partial")
    topic_id = "another" if spoil == "topic id" else TOPIC_ID
    with (
        running_ledger(tmp_path / "state") as ledger,
        receiving(ledger, tmp_path / "data", take=False) as parts,
    ):
        sweep(parts.destination, TOPIC, 0)
        parts.receiver.take(0, topic_id, 0)
        assert parts.parts() == []
        parts.receiver.receive(LARGE.records())
        assert parts.visible() == {b"large": LARGE.content}


def test_sweep_keeps_what_is_durable_fresh_and_of_this_topic(tmp_path: Path) -> None:
    with life(tmp_path) as parts:
        parts.receiver.receive(LARGE.records()[:4])
        parts.receiver.checkpoint(leaving=True)
        parts.receiver.receive(Sent(bytes(9), b"not durable").records(0, 4)[:1])
        assert len(parts.parts()) == 2
        sweep(parts.destination, TOPIC, 0)
        assert len(parts.parts()) == 1
        sweep(parts.destination, "another", 0)
        assert parts.parts() == []


def test_damaged_partial_is_read_again_and_nothing_is_given_up(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive([*records[:4], *SMALL.records(0, 4)])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
        with (parts.root / ".kfd" / parts.parts()[0]).open("r+b") as file:
            file.write(b"?")
    with life(tmp_path, committed) as parts:
        parts.receiver.receive(at(records[4:], 5))
        assert parts.receiver.take_rewinds() == {0: 0}
        assert parts.visible() == {b"small": SMALL.content}
        parts.receiver.receive([*records[:4], *SMALL.records(0, 4), *at(records[4:], 5)])
        assert parts.visible() == {b"large": LARGE.content, b"small": SMALL.content}
        assert bad(parts) == {}


def test_file_that_is_really_wrong_fails_after_it_was_read_again(tmp_path: Path) -> None:
    wrong = replace(LARGE, digest=bytes(32), tid=os.urandom(16))
    records = wrong.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
    with life(tmp_path, committed) as parts:
        parts.receiver.receive(records[4:])
        assert parts.receiver.take_rewinds() == {0: 0}
        parts.receiver.receive(records)
        assert parts.receiver.take_rewinds() == {}
        assert state(parts, wrong) == ("quarantined", "digest-mismatch")
        assert bad(parts) == {"digest-mismatch": 1}


def test_digests_are_caught_up_in_pieces(tmp_path: Path) -> None:
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:9])
        parts.receiver.checkpoint(leaving=True)
        committed = said(parts)
    with life(tmp_path, committed) as parts:
        steps = 0
        while parts.receiver.catch_up(10):
            steps += 1
        assert steps == 3
        parts.receiver.receive(records[9:])
        assert parts.visible() == {b"large": LARGE.content}


def test_sync_that_failed_is_not_believed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops what it could not write, and the next fsync says that all is well."""
    records = LARGE.records()
    with life(tmp_path) as parts:
        parts.receiver.receive(records[:4])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(DiskError):
                parts.receiver.checkpoint(leaving=True)
        parts.receiver.resume()
        assert parts.parts() == []
        assert parts.receiver.take_rewinds() == {0: 0}
        assert said(parts).open[0].chunks == 0
        parts.receiver.receive(records)
        assert parts.visible() == {b"large": LARGE.content}


def failing(_fd: int) -> None:
    raise OSError(5, "Input/output error")
