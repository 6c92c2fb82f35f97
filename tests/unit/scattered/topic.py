"""A topic of three partitions in memory, and a host that reads it over many lives."""

from __future__ import annotations

from collections.abc import Sequence

from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import dropped
from kfd.offsets import Progress, decode
from tests.parts import ROUTE, TOPIC_ID, Receiving
from tests.peerfiles import PeerFile

PARTITIONS = (0, 1, 2)


class Topic:
    """What was produced; each record has the next offset of its partition, and the next ms."""

    def __init__(self) -> None:
        self.records: dict[int, list[Record]] = {number: [] for number in PARTITIONS}
        self.now = 1_700_000_000_000

    def add(self, value: bytes | None, partition: int) -> Record:
        self.now += 1
        log = self.records[partition]
        record = Record(partition, len(log), None, value, self.now)
        log.append(record)
        return record

    def upload(self, file: PeerFile, order: Sequence[int] | None = None) -> list[Record]:
        """A file, its chunks dealt out to the partitions; a second after all before."""
        self.now += 1000
        indexes = order or range(1, file.total + 1)
        return [self.add(file.value(index), index % len(PARTITIONS)) for index in indexes]

    def ends(self) -> dict[int, int]:
        return {number: len(log) for number, log in self.records.items()}


def read_rest(parts: Receiving, topic: Topic, batch: int = 256) -> None:
    """Let the receiver read all that it hasn't, as the consumer does."""
    for _ in range(1000):
        while parts.receiver.catch_up(1 << 20):
            pass
        positions = parts.receiver.positions()
        rest = [
            record for number in PARTITIONS for record in topic.records[number][positions[number] :]
        ]
        if not rest:
            return
        parts.receiver.receive(rest[:batch])
        parts.receiver.take_rewinds()
    raise AssertionError("it reads the same again and again")


def restart(parts: Receiving, committed: dict[int, Progress | int]) -> None:
    """Begin a new life where the last one committed: its receiver knows the ledger only."""
    parts.receiver = parts._receiver(parts.partials, parts.publisher)
    for number in PARTITIONS:
        one = committed[number]
        if isinstance(one, int):
            parts.receiver.take(number, TOPIC_ID, one)
        else:
            parts.receiver.take(number, TOPIC_ID, one.offset, decode(one.encode()))


def states(parts: Receiving) -> list[tuple[bytes, str]]:
    """(path, state) of all that ended here, in order."""
    rows = parts.ledger.reader().execute("SELECT path, state FROM incoming ORDER BY id")
    return [(path, state) for path, state in rows]


def bad(parts: Receiving) -> dict[str, int]:
    return dropped.bad_counts(parts.ledger.reader(), ROUTE)
