"""What one consumer thread makes of the records of its partitions: files, put together in order.

Knows nothing of Kafka's client: records come in as plain values, and the offsets that may be
committed go out. Nothing is in memory only that an offset has passed: an offset is safe when every
transfer that began before it is published, or on record as rejected.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from kfd.assembly import Aborted, Append, Assembler, Drop, Failed, OpenTransfer
from kfd.daemon.destination import PartKey
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.ledger.incoming import BadRecord as BadCount
from kfd.daemon.naming import Rejection
from kfd.daemon.partials import DiskError, Partials
from kfd.daemon.publisher import Complete, Publisher
from kfd.wire import BadRecord, Header, Reason, decode_headers

log = logging.getLogger(__name__)

CLOCK_SKEW_SECONDS = 24 * 3600.0  # by which a sender's clock may be ahead of ours
LOG_SECONDS = 60.0  # between log lines about dropped records of one reason


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record, as the receiver needs it."""

    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] | None
    value: bytes | None


@dataclass(slots=True, eq=False)
class Partition:
    """A partition that this thread reads. ``position`` is the next offset."""

    topic_id: str
    assembler: Assembler
    position: int


class Throttle:
    """Lets one line of each reason and interval into the log. Shared by the threads of a route.

    The lock guards ``_logged_at``, which has one entry for each reason.
    """

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}  # monotonic
        self._lock = threading.Lock()

    def passes(self, reason: str) -> bool:
        """Whether it is time to log something of this reason."""
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at.get(reason, -LOG_SECONDS) < LOG_SECONDS:
                return False
            self._logged_at[reason] = now
            return True


@dataclass(slots=True)
class BadRecords:
    """Dropped records since the ledger was told."""

    topic: str
    counts: Counter[str] = field(default_factory=Counter)
    last: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, reason: str, record: Record) -> None:
        """Count one."""
        self.counts[reason] += 1
        self.last[reason] = (record.partition, record.offset)

    def take(self) -> list[BadCount]:
        """What was counted; counting begins anew."""
        taken = [
            BadCount(reason, count, self.topic, *self.last[reason])
            for reason, count in self.counts.items()
        ]
        self.counts.clear()
        self.last.clear()
        return taken


@dataclass(slots=True)
class Batch:
    """What the records of one batch brought to an end."""

    complete: list[Complete] = field(default_factory=list)
    failed: list[tuple[Complete, Rejection]] = field(default_factory=list)


class Receiver:
    """The partitions of one consumer thread; every method is called in that thread."""

    def __init__(
        self, route: str, topic: str, max_size: int,
        ledger: Ledger, partials: Partials, publisher: Publisher, throttle: Throttle,
    ) -> None:  # fmt: skip
        self._route = route
        self._topic = topic
        self._max_size = max_size
        self._ledger = ledger
        self._partials = partials
        self._publisher = publisher
        self._throttle = throttle
        self._bad = BadRecords(topic)
        self._partitions: dict[int, Partition] = {}
        self._unsettled: set[int] = set()  # partitions of which intents may be left
        # (topic id, partition) → offset below which bad records were counted
        self._counted: dict[tuple[str, int], int] = {}

    def take(self, partition: int, topic_id: str, offset: int) -> None:
        """Begin to read a partition at ``offset``; nothing of it is known."""
        assembler = Assembler(self._topic, self._max_size)
        self._partitions[partition] = Partition(topic_id, assembler, offset)
        self._unsettled.add(partition)  # who had it before may have left intents

    def drop(self, partitions: Iterable[int]) -> None:
        """Give partitions up: their partials go, whoever reads them next reads them again.

        Raises :class:`DiskError`; what is left is still held then.
        """
        self._settle()  # first: a partial's name may hold what an exchange brought out
        for number in partitions:
            partition = self._partitions.get(number)
            if partition is not None:
                for transfer in partition.assembler.open_transfers():
                    self._partials.discard(PartKey(transfer.tid, number))
                del self._partitions[number]

    def forget(self, partitions: Iterable[int]) -> None:
        """Give partitions up whose partials can't be removed: the next start removes them."""
        for number in partitions:
            self._partitions.pop(number, None)

    def receive(self, records: Sequence[Record]) -> None:
        """Put a batch of records where they belong, and publish what is complete.

        Raises :class:`DiskError`; then :meth:`start_over` is next.
        """
        try:
            self._settle()
            self._receive(records)
        except DiskError:
            self._unsettled.update(self._partitions)
            raise

    def start_over(self) -> dict[int, int]:
        """After a :class:`DiskError`: forget all partials; partition → offset to read from.

        Raises :class:`DiskError` while the disk still fails; then it is to be called again.
        """
        restart = {}
        for number, partition in list(self._partitions.items()):
            offset = partition.assembler.safe_offset(partition.position)
            restart[number] = offset
            topic_id = partition.topic_id
            self.drop([number])
            self.take(number, topic_id, offset)
        return restart

    def safe_offsets(self) -> dict[int, int]:
        """The offset to commit for each partition."""
        return {
            number: partition.assembler.safe_offset(partition.position)
            for number, partition in self._partitions.items()
        }

    def positions(self) -> dict[int, int]:
        """The next offset of each partition."""
        return {number: partition.position for number, partition in self._partitions.items()}

    def open_transfers(self) -> list[OpenTransfer]:
        """Files of several records that are being put together."""
        return [
            transfer
            for partition in list(self._partitions.values())
            for transfer in partition.assembler.open_transfers()
        ]

    def _settle(self) -> None:
        """Bring to their end what was to be renamed, before anything of it is read again."""
        if self._unsettled:
            self._publisher.recover(self._unsettled)
            self._unsettled.clear()

    def _receive(self, records: Sequence[Record]) -> None:
        batch = Batch()
        decoded = self._decode(records)
        known = self._closed(decoded)
        for record, header in decoded:
            if header is not None:
                self._accept(record, header, known[record.partition], batch)
            # only now: had it failed, its partition would go on before this record
            partition = self._partitions[record.partition]
            partition.position = record.offset + 1
            self._counted[partition.topic_id, record.partition] = record.offset + 1
        self._close(self._publisher.publish(batch.complete))
        self._close(self._publisher.reject(batch.failed))
        self._save_bad()

    def _decode(self, records: Sequence[Record]) -> list[tuple[Record, Header | None]]:
        """The records, each with kfd's header; None for those that are counted as bad."""
        latest = int((time.time() + CLOCK_SKEW_SECONDS) * 1_000_000)
        return [(record, self._header(record, latest)) for record in records]

    def _header(self, record: Record, latest: int) -> Header | None:
        try:
            header = decode_headers(record.headers)
        except BadRecord as error:
            self._count(error.reason, record, error.detail)
            return None
        if header.begin is not None and header.begin.generation > latest:
            # it would pass for the newest version of its path for as long as it is ahead
            self._count(Reason.FUTURE_GENERATION, record)
            return None
        return header

    def _closed(
        self, decoded: Sequence[tuple[Record, Header | None]]
    ) -> dict[int, Collection[bytes]]:
        """Partition → those tids of the batch that have ended here before; one look for each."""
        unknown: dict[int, set[bytes]] = {record.partition: set() for record, _ in decoded}
        for record, header in decoded:
            assembler = self._partitions[record.partition].assembler
            if header is not None and header.tid not in assembler:
                unknown[record.partition].add(header.tid)
        reader = self._ledger.reader()
        return {
            number: incoming.closed(
                reader, self._route, self._partitions[number].topic_id, number, list(tids)
            )
            for number, tids in unknown.items()
        }

    def _accept(
        self, record: Record, header: Header, known: Collection[bytes], batch: Batch
    ) -> None:
        partition = self._partitions[record.partition]
        key = PartKey(header.tid, record.partition)
        match partition.assembler.accept(record.offset, header, record.value, known):
            case Append(transfer, _, complete):
                assert record.value is not None
                offset = transfer.received - len(record.value)
                self._partials.append(key, offset, record.value)
                if complete:
                    batch.complete.append(Complete(transfer, partition.topic_id, record.partition))
            case Drop(reason):
                self._count(reason, record)
            case Aborted(transfer):
                log.info("%s: given up by its sender", transfer.tid.hex())
                self._partials.discard(key)
                partition.assembler.close(transfer.tid)
            case Failed(transfer, reason):
                # stays open until the end of the batch: what repeats it is a duplicate
                self._count(reason, record)
                failed = Complete(transfer, partition.topic_id, record.partition)
                batch.failed.append((failed, Rejection("quarantined", reason)))

    def _close(self, over: Iterable[Complete]) -> None:
        for one in over:
            self._partitions[one.partition].assembler.close(one.transfer.tid)

    def _count(self, reason: Reason, record: Record, detail: str = "") -> None:
        topic_id = self._partitions[record.partition].topic_id
        if record.offset < self._counted.get((topic_id, record.partition), 0):
            return  # read again after a failing disk
        self._bad.add(reason, record)
        if self._throttle.passes(reason):
            level = logging.DEBUG if reason is Reason.DUPLICATE else logging.WARNING
            log.log(
                level, "%s: record %s[%d]@%d not used: %s%s",
                *(self._route, self._topic, record.partition, record.offset, reason),
                f" ({detail})" if detail else "",
            )  # fmt: skip

    def _save_bad(self) -> None:
        """Before the offset is committed; killed in between, they are counted twice, not never."""
        bad = self._bad.take()
        if bad:
            self._ledger.write_patiently(lambda db: incoming.count_bad(db, self._route, bad))
