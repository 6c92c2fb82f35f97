"""Files that are received and published, by the ledger's own operations."""

from __future__ import annotations

from dataclasses import replace

from kfd.daemon.ledger import Ledger, incoming, publications
from kfd.daemon.ledger.publications import Received
from tests.parts import TOPIC_ID, Sent


def received(sent: Sent, name: bytes = b"run.trc", **changes: object) -> Received:
    values = {"partition": 0, "first_offset": 5, "device": 1, "inode": 2} | changes
    return Received(
        *("archive", TOPIC_ID, values["partition"], values["first_offset"]),  # type: ignore[arg-type]
        *(sent.tid, sent.begin, bytes(32), name, sent.mtime_ns),
        *(values["device"], values["inode"]),  # type: ignore[arg-type]
    )


def with_meta(one: Received, meta: dict[str, str]) -> Received:
    return replace(one, begin=replace(one.begin, meta=meta))


def publish(ledger: Ledger, *batch: Received) -> None:
    ledger.write(lambda db: publications.intend(db, batch))
    ledger.write(lambda db: publications.conclude(db, batch, []))


def closed_in(ledger: Ledger, partition: int, tids: list[bytes]) -> set[bytes]:
    return incoming.closed(ledger.reader(), "archive", TOPIC_ID, partition, tids)


def newest(ledger: Ledger, sent: Sent) -> incoming.Published | None:
    return incoming.newest(ledger.reader(), "archive", TOPIC_ID, sent.origin, [sent.path]).get(
        sent.path
    )


def received_as(one: Received, name: bytes) -> Received:
    return Received(
        *(one.route, one.topic_id, one.partition, one.first_offset, one.tid, one.begin),
        *(one.digest, name, one.mtime_ns, one.device, one.inode),
    )
