"""Files that are accepted, sent and ended, by the ledger's own operations."""

from __future__ import annotations

from kfd.daemon.ledger import Ledger, accepting, endings, outgoing
from kfd.daemon.ledger.accepting import Accepted, Offer
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Claim
from tests.parts import TOPIC_ID

COLUMNS = outgoing._COLUMNS.replace("o.", "")


CHUNK_SIZE = 1000


def offer(*versions: object, **changes: object) -> Offer:
    values = {"route": "lab", "topic": "t", "chunk_size": CHUNK_SIZE, "meta": {}} | changes
    return Offer(versions=versions, **values)  # type: ignore[arg-type]


def accept(ledger: Ledger, *versions: object, **changes: object) -> list[Accepted]:
    return ledger.write(lambda db: accepting.accept(db, offer(*versions, **changes)))


def accept_one(ledger: Ledger, *versions: object, **changes: object) -> bytes:
    (one,) = accept(ledger, *versions, **changes)
    assert not one.already
    assert one.tid is not None
    return one.tid


def row(ledger: Ledger, tid: bytes, columns: str = "state") -> tuple[object, ...]:
    found: tuple[object, ...] = (
        ledger.reader().execute(f"SELECT {columns} FROM outgoing WHERE tid = ?", (tid,)).fetchone()
    )
    return found


def queued(ledger: Ledger, lane: int = SMALL, **options: object) -> list[outgoing.Outgoing]:
    defaults = {"route": "lab", "topic": "t", "newest": False, "limit": 100} | options
    return outgoing.waiting(ledger.reader(), lane=lane, **defaults)  # type: ignore[arg-type]


def claim_all(ledger: Ledger, partition: int = 3) -> list[outgoing.Outgoing]:
    claims = [
        Claim(one.id, "t", one.path, TOPIC_ID, partition, CHUNK_SIZE, moved=True)
        for lane in (SMALL, LARGE)
        for one in queued(ledger, lane)
    ]
    ledger.write(lambda db: outgoing.claim(db, claims))
    return outgoing.sending(ledger.reader())


def end(ledger: Ledger, tid: bytes, state: str = "in_kafka", **changes: object) -> None:
    values = row(ledger, tid, COLUMNS)
    ending = Ending(outgoing._outgoing(values), state, 1, **changes)  # type: ignore[arg-type]
    ledger.write(lambda db: endings.end(db, [ending]))
