"""What people ask: by id, by state, the newest; and none of it reads the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from kfd.control import Direction, ListParameters, State
from kfd.daemon.ledger import Ledger, answersize, incoming, known, outgoing, publications, queries
from kfd.daemon.ledger.outgoing import LARGE, SMALL
from kfd.errors import ExitCode, KfdError, NoSuchTransferError, UsageError
from tests.parts import TOPIC_ID, Sent, version
from tests.unit.ledger.incoming_files import publish, received
from tests.unit.ledger.outgoing_files import accept_one, end


def test_found_by_whole_id_and_by_its_end(ledger: Ledger) -> None:
    tid = accept_one(ledger, version(b"a\n"), meta={})
    other = accept_one(ledger, version(b"b"))
    for text in (tid.hex(), tid.hex()[-8:], tid.hex().upper()):
        found = queries.find(ledger.reader(), "here", text)
        assert (found.tid, found.direction, found.origin) == (
            *(tid.hex(), Direction.UPLOAD, "here"),
        )
        assert (found.path, found.state) == ("a\\x0a", State.QUEUED)
    assert other != tid


def test_file_that_was_sent_and_received_here_is_found_as_sent(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    publish(ledger, received(Sent(b"abc", tid=tid)))
    for text in (tid.hex(), tid.hex()[-8:]):
        assert queries.find(ledger.reader(), "here", text).direction is Direction.UPLOAD


def test_both_halves_of_it(ledger: Ledger) -> None:
    tid = accept_one(ledger, version())
    assert [one.state for one in queries.halves(ledger.reader(), "here", tid.hex())] == ["queued"]
    publish(ledger, received(Sent(b"abc", tid=tid)))
    for text in (tid.hex(), tid.hex()[-8:]):
        found = queries.halves(ledger.reader(), "here", text)
        assert [one.direction for one in found] == [Direction.UPLOAD, Direction.DOWNLOAD]
    assert queries.halves(ledger.reader(), "here", "0" * 32) == []


def test_end_that_several_share_is_refused(ledger: Ledger) -> None:
    one, other = (Sent(b"a", b"%d" % n, bytes([n]) * 12 + b"\1\2\3\4") for n in range(2))
    publish(ledger, received(one), received(other))
    with pytest.raises(UsageError, match="several"):
        queries.find(ledger.reader(), "here", "01020304")
    found = queries.find(ledger.reader(), "here", one.tid.hex())
    assert found.tid == one.tid.hex()


@pytest.mark.parametrize("text", ["", "1", "xyz", "0102030", "010203045", "g" * 8, "0" * 31])
def test_what_is_no_id_is_refused(ledger: Ledger, text: str) -> None:
    with pytest.raises(UsageError, match="no transfer id"):
        queries.find(ledger.reader(), "here", text)


@pytest.mark.parametrize("text", ["00000000", "0" * 32])
def test_unknown_id_is_said(ledger: Ledger, text: str) -> None:
    with pytest.raises(NoSuchTransferError) as caught:
        queries.find(ledger.reader(), "here", text)
    assert caught.value.exit_code == ExitCode.NO_SUCH_TRANSFER


def test_newest_of_both_directions(ledger: Ledger) -> None:
    sent = [accept_one(ledger, version(b"%d" % n)) for n in range(4)]
    end(ledger, sent[0], "failed", reason="why", fix="how")
    publish(ledger, received(Sent(b"x", b"in")))

    def paths(state: State | None, route: str | None, limit: int = 9) -> list[str]:
        found = queries.newest(
            ledger.reader(), "here", ListParameters(state=state, route=route, limit=limit)
        )
        return [one.path for one in found]

    assert set(paths(None, None)) == {"0", "1", "2", "3", "in"}
    assert len(paths(None, None, 2)) == 2
    assert paths(State.QUEUED, None, 2) == ["3", "2"]
    assert paths(State.FAILED, "lab") == ["0"]
    assert paths(State.PUBLISHED, None) == ["in"]
    assert paths(None, "archive") == ["in"]
    assert paths(State.QUEUED, "archive") == []


def test_transfer_being_published_is_listed_as_receiving(ledger: Ledger) -> None:
    ledger.write(lambda db: publications.intend(db, [received(Sent(b"x", b"in"))]))
    for state in (None, State.RECEIVING):
        (found,) = queries.newest(ledger.reader(), "here", ListParameters(state=state, limit=9))
        assert found.state == State.RECEIVING


class Explaining:
    """A connection that notes the plans of all that is asked of it."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self.plans: list[str] = []

    def execute(self, sql: str, values: object = ()) -> sqlite3.Cursor:
        rows = self._reader.execute(f"EXPLAIN QUERY PLAN {sql}", values)  # type: ignore[arg-type]
        self.plans.extend(detail for *_, detail in rows.fetchall())
        return self._reader.execute(sql, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ask",
    [
        lambda db: outgoing.waiting(db, "lab", "t", SMALL, newest=False, limit=9),
        lambda db: outgoing.waiting(db, "lab", "t", LARGE, newest=True, limit=9),
        outgoing.sending,
        outgoing.destinations,
        queries.tallies,
        lambda db: known.unknown(db, "lab", "t", [version()]),
        lambda db: known.after(db, "lab", "t", b"a", 9),
        lambda db: publications.intents(db, "archive"),
        lambda db: incoming.closed(db, "archive", TOPIC_ID, 0, [bytes(16)] * 3),
        lambda db: incoming.newest(db, "archive", TOPIC_ID, "o", [b"p"]),
        lambda db: queries.find(db, "here", "0" * 32),
    ],
    ids=[
        *("waiting", "waiting newest", "sending", "destinations", "tallies"),
        *("unknown", "known_after"),
        *("intents", "closed", "latest", "find"),
    ],
)
def test_nothing_asked_in_passing_reads_the_history(
    ledger: Ledger, ask: Callable[[object], object]
) -> None:
    publish(ledger, received(Sent(b"x", tid=bytes(16))))  # else ``find`` finds nothing
    # what waits or is under way is in small indexes of its own; the tally has a row a route
    small = ("outgoing_queued", "outgoing_sending", "incoming_publishing", "SCAN tally")
    reader = Explaining(ledger.reader())
    ask(reader)
    assert reader.plans
    for detail in reader.plans:
        assert not detail.startswith("SCAN") or any(name in detail for name in small), detail
        assert ask is outgoing.sending or "TEMP B-TREE FOR ORDER BY" not in detail, detail


def test_names_that_are_too_long_for_one_answer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before they are all in memory; fewer of them are shown."""
    monkeypatch.setattr(answersize, "MAX_NAMES", 10)
    for name in (b"aaaa", b"bbbb", b"cccc"):
        accept_one(ledger, version(name))
    with pytest.raises(KfdError, match="too long for one answer"):
        queries.newest(ledger.reader(), "here", ListParameters(limit=3))
    shown = queries.newest(ledger.reader(), "here", ListParameters(limit=2))
    assert [one.path for one in shown] == ["cccc", "bbbb"]
