"""Which files are accepted, which are known, and in which order versions follow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kfd.daemon.ledger import Ledger, accepting, known, outgoing
from kfd.daemon.ledger.accepting import Accepted
from kfd.daemon.ledger.outgoing import LARGE
from tests.parts import version
from tests.unit.ledger.outgoing_files import (
    CHUNK_SIZE,
    accept,
    accept_one,
    claim_all,
    end,
    queued,
    row,
)


def test_accepted_file_is_queued_with_all_that_it_was(ledger: Ledger) -> None:
    one = version(b"d/\xff\n", source=b"/x/d/\xff\n", size=CHUNK_SIZE + 1)
    tid = accept_one(ledger, one, meta={"k": "ü"}, uid=7)
    (waiting,) = queued(ledger, LARGE)
    found = waiting
    assert (found.tid, found.path, found.source) == (tid, one.path, one.source)
    assert (found.device, found.inode, found.size, found.mtime_ns, found.mode) == (
        *(one.device, one.inode, one.size, one.mtime_ns, one.mode),
    )
    assert (found.meta, found.uid, found.lane, found.acked) == ({"k": "ü"}, 7, LARGE, 0)
    assert (found.topic_id, found.partition, found.chunk_size) == (None, None, None)
    assert (waiting.topic_id, waiting.partition) == (None, None)


def test_same_version_is_accepted_once(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    for _ in range(2):
        assert accept(ledger, version()) == [Accepted(tid, already=True)]
    claim_all(ledger)
    end(ledger, tid)
    assert accept(ledger, version()) == [Accepted(tid, already=True)]
    assert known.earlier(ledger.reader(), "lab", "t", version()) == tid
    assert known.unknown(ledger.reader(), "lab", "t", [version()]) == []


@pytest.mark.parametrize("change", [{"inode": 9}, {"size": 9}, {"mtime_ns": 9}])
def test_any_change_makes_a_new_version(ledger: Ledger, change: dict[str, int]) -> None:
    first = accept_one(ledger, version())
    newer = version(**change)
    assert known.unknown(ledger.reader(), "lab", "t", [newer]) == [newer]
    assert known.earlier(ledger.reader(), "lab", "t", newer) is None
    assert accept_one(ledger, newer) != first


def test_mode_and_ctime_make_no_new_version(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    assert accept(ledger, version(mode=0o600, ctime_ns=99)) == [Accepted(tid, already=True)]


@pytest.mark.parametrize("change", [{"device": 9}, {"inode": 0}, {"inode": 0, "device": 0}])
def test_what_means_nothing_makes_no_new_version(ledger: Ledger, change: dict[str, int]) -> None:
    """A device's number changes with a reboot, inodes have no meaning while a route is polled."""
    tid = accept_one(ledger, version())
    assert accept(ledger, version(**change)) == [Accepted(tid, already=True)]
    assert known.unknown(ledger.reader(), "lab", "t", [version(**change)]) == []


def test_routes_know_files_by_themselves(ledger: Ledger) -> None:
    accept_one(ledger, version())
    assert accept_one(ledger, version(), route="other")
    assert known.unknown(ledger.reader(), "third", "t", [version()]) == [version()]
    assert accept_one(ledger, version(), topic="u")  # the route got another topic


def test_again_sends_what_was_sent(ledger: Ledger) -> None:
    first = accept_one(ledger, version())
    claim_all(ledger)
    second = accept_one(ledger, version(), again=True)
    assert second != first
    assert row(ledger, first) == ("sending",)
    assert known.earlier(ledger.reader(), "lab", "t", version()) == second


def test_file_that_was_there_before_the_route_is_only_remembered(ledger: Ledger) -> None:
    old, new = version(b"old", ctime_ns=10), version(b"new", ctime_ns=20)
    answers = accept(ledger, old, new, skip_older_ns=20)
    assert answers[0] == Accepted(None, already=True)
    assert answers[1].tid is not None
    assert [one.path for one in queued(ledger)] == [b"new"]
    assert known.unknown(ledger.reader(), "lab", "t", [old]) == []
    assert accept_one(ledger, version(b"old", ctime_ns=20, size=9), skip_older_ns=20)


def test_waiting_version_gives_way_to_its_newer_one(ledger: Ledger) -> None:
    old = accept_one(ledger, version(size=1))
    new = accept_one(ledger, version(size=2))
    assert row(ledger, old, "state, successor") == ("cancelled", new)
    assert [one.tid for one in queued(ledger)] == [new]


def test_version_being_sent_does_not_give_way(ledger: Ledger) -> None:
    old = accept_one(ledger, version(size=1))
    claim_all(ledger)
    new = accept_one(ledger, version(size=2))
    assert row(ledger, old) == ("sending",)
    assert row(ledger, new) == ("queued",)


def test_version_of_another_file_does_not_give_way(ledger: Ledger) -> None:
    """Two files were sent under one name: both are readable still, and both were accepted."""
    one = accept_one(ledger, version(source=b"/a/run.trc", inode=1))
    other = accept_one(ledger, version(source=b"/b/run.trc", inode=2))
    assert [row(ledger, tid) for tid in (one, other)] == [("queued",), ("queued",)]


def test_generations_never_go_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5000.0, 4000.0, 4000.0, 6000.0])
    monkeypatch.setattr(accepting, "time", SimpleNamespace(time=lambda: next(clock)))
    tids = [accept_one(ledger, version(size=size)) for size in range(1, 5)]
    monkeypatch.undo()
    assert [row(ledger, tid, "generation")[0] for tid in tids] == [
        5_000_000_000, 5_000_000_001, 5_000_000_002, 6_000_000_000
    ]  # fmt: skip


def test_generations_go_on_after_the_transfers_were_pruned(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tid = accept_one(ledger, version(size=1))
    (generation,) = row(ledger, tid, "generation")
    claim_all(ledger)
    end(ledger, tid)
    assert ledger.write(lambda db: outgoing.prune(db, 2**40, 10)) == 1
    monkeypatch.setattr(accepting, "time", SimpleNamespace(time=lambda: 1000.0))
    newer = accept_one(ledger, version(size=2))
    assert row(ledger, newer, "generation") == (generation + 1,)


def test_known_files_are_paged_and_forgotten(ledger: Ledger) -> None:
    files = [version(path) for path in (b"a", b"a/b", b"b", b"\xff")]
    accept(ledger, *files)

    def page(after: bytes, limit: int, route: str = "lab") -> list[tuple[bytes, bytes]]:
        return known.after(ledger.reader(), route, "t", after, limit)

    pairs = [(one.path, one.source) for one in files]
    assert page(b"", 2) == pairs[:2]
    assert page(b"a/b", 9) == pairs[2:]
    ledger.write(lambda db: known.forget(db, "lab", "t", [b"a", b"\xff"]))
    assert page(b"", 9) == pairs[1:3]
    assert page(b"", 9, "other") == []
    assert known.destinations(ledger.reader()) == [("lab", "t")]


def test_route_is_born_once(ledger: Ledger) -> None:
    first = ledger.write(lambda db: accepting.born_ns(db, "lab"))
    assert ledger.write(lambda db: accepting.born_ns(db, "lab")) == first
    assert ledger.write(lambda db: accepting.born_ns(db, "other")) >= first
