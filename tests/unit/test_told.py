"""What senders are to be told is in the ledger with the end of each transfer, however it ends."""

from __future__ import annotations

from typing import Any

import pytest

from kfd.daemon.ledger import publications, receipts
from kfd.daemon.publishing.partials import DiskError
from kfd.daemon.publishing.settlement import settle
from kfd.receipts import Outcome, Receipt, decode
from tests.parts import GENERATION, ROUTE, TOPIC, Receiving, Sent
from tests.privileges import unprivileged


def told(parts: Receiving) -> list[Receipt]:
    """All receipts that wait, in their order."""
    rows = receipts.waiting(parts.ledger.reader(), TOPIC, 100)
    return [one for row in rows for one in decode(row.record).receipts]


def outcomes(parts: Receiving) -> list[tuple[bytes, Outcome]]:
    return [(one.tid, one.outcome) for one in told(parts)]


def test_published_file_is_told_with_its_digest(parts: Receiving) -> None:
    sent = Sent(b"abcdefgh")
    parts.receiver.receive(sent.records())
    (receipt,) = told(parts)
    assert (receipt.tid, receipt.outcome) == (sent.tid, Outcome.PUBLISHED)
    end = sent.records()[-1]
    assert receipt.digest is not None
    assert receipt.digest in dict(end.headers or [])["kfd"]  # type: ignore[operator]


def test_other_ends_are_told(parts: Receiving) -> None:
    newest, older = Sent(b"newest"), Sent(b"older", generation=GENERATION - 1)
    wrong, never = Sent(b"wrong", b"wrong", digest=bytes(32)), Sent(bytes(9), b"never")
    parts.receiver.receive(newest.records(0))
    parts.receiver.receive([*older.records(0, 2), *wrong.records(1), never.records(2)[0]])
    parts.receiver.pass_time(3600, [2])
    assert sorted(outcomes(parts)) == sorted(
        [
            (newest.tid, Outcome.PUBLISHED),
            (older.tid, Outcome.SUPERSEDED),
            (wrong.tid, Outcome.QUARANTINED),
            (never.tid, Outcome.EXPIRED),
        ]
    )


class KilledError(Exception):
    """Nothing goes on after it."""


def killed(*_: Any) -> None:
    raise KilledError


def test_interrupted_publication_is_told_when_it_is_settled(
    parts: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(b"abcdefgh")
    with monkeypatch.context() as patch:
        patch.setattr(publications, "conclude", killed)
        with pytest.raises(KilledError):
            parts.receiver.receive(sent.records())
    assert told(parts) == []
    settle(ROUTE, parts.destination, parts.ledger)
    assert outcomes(parts) == [(sent.tid, Outcome.PUBLISHED)]
    assert parts.visible() == {b"run.trc": sent.content}


def test_offset_waits_until_a_refusal_is_on_record(parts: Receiving) -> None:
    """Whoever has to leave its partitions meanwhile commits what is safe: another one reads the
    transfer again, and tells."""
    wrong = Sent(b"abc", digest=bytes(32))
    private = parts.root / ".kfd"
    private.chmod(0)
    with unprivileged(), pytest.raises(DiskError):
        parts.receiver.receive([*wrong.records(0, 5), *Sent(b"x", b"x").records(0, 6)])
    private.chmod(0o700)
    assert told(parts) == []
    assert parts.receiver.safe_offsets()[0] == 5
    parts.receiver.resume()
    assert (wrong.tid, Outcome.QUARANTINED) in outcomes(parts)
    assert parts.receiver.safe_offsets()[0] == 7
