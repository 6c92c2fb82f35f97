"""What one consumer thread makes of the records of its partitions: files, put together in order.

Knows nothing of Kafka's client: records come in as plain values, and what may be committed goes
out. Nothing is in memory only that an offset has passed: an offset is safe when every transfer that
began before it is published, or on record as rejected.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kfd.assembly import Aborted, Append, Assembler, Drop, Failed, OpenTransfer, Skip, Verdict
from kfd.daemon.badrecords import BadRecords, Throttle
from kfd.daemon.checkpoint import Checkpoint
from kfd.daemon.destination import PartKey
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.losses import Losses
from kfd.daemon.naming import Rejection
from kfd.daemon.partials import DiskError, Partials
from kfd.daemon.partition import Partition
from kfd.daemon.publisher import Complete, Publisher
from kfd.daemon.restoring import Restoring
from kfd.daemon.space import Space
from kfd.offsets import Progress
from kfd.units import human_duration
from kfd.wire import BadRecord, Header, Reason, decode_headers

log = logging.getLogger(__name__)

MAX_DEFERRED = 1024  # files of a partition that wait for space; then all of it waits


@dataclass(frozen=True, slots=True)
class Terms:
    """What a download route takes. Sizes are bytes, durations seconds."""

    route: str
    topic: str
    max_size: int
    incomplete_timeout: float


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record, as the receiver needs it."""

    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] | None
    value: bytes | None


Decoded = tuple[Record, Header | BadRecord]


class Receiver:
    """The partitions of one consumer thread; every method is called in that thread.

    Any method but the plain questions may raise :class:`DiskError`. Nothing is lost then, and no
    record has to come again: :meth:`resume` goes on where it was, as soon as the disk lets it.
    """

    def __init__(
        self, terms: Terms, ledger: Ledger, partials: Partials, publisher: Publisher,
        space: Space, throttle: Throttle,
    ) -> None:  # fmt: skip
        self._terms = terms
        self._ledger = ledger
        self._partials = partials
        self._publisher = publisher
        self._space = space
        self._bad = BadRecords(terms.route, terms.topic, throttle)
        self._losses = Losses()
        self._checkpoint = Checkpoint(partials)
        self._restoring = Restoring(terms.route, ledger, partials)
        self._partitions: dict[int, Partition] = {}
        self._backlog: deque[Decoded] = deque()  # read, and not yet looked at
        self._complete: list[Complete] = []  # and not yet published
        self._failed: list[tuple[Complete, Rejection]] = []  # and not yet on record
        self._spoiled: list[PartKey] = []  # partials that can't be believed any more
        self._rewinds: dict[int, int] = {}  # partition → offset to read on from instead
        self._unsettled: set[int] = set()  # partitions of which intents may be left
        # (topic id, partition) → offset below which bad records were counted
        self._counted: dict[tuple[str, int], int] = {}

    def take(
        self, number: int, topic_id: str, offset: int, progress: Progress | None = None
    ) -> int:
        """Begin to read a partition that was committed at ``offset``; the offset to begin at.

        ``progress`` is what was committed with it, if that is valid: what has ended elsewhere is
        passed over, and what is durable here isn't read again.
        """
        assembler = Assembler(self._terms.topic, self._terms.max_size)
        partition = Partition(number, topic_id, assembler, offset, offset)
        self._publisher.recover({number})  # who had it before may have left intents
        held = self._restoring.restore(partition, progress)
        if progress is not None:
            assembler.trust(progress.position, progress.open)
            partition.position = progress.start(held)
            partition.reached = progress.position
            partition.inherited = progress.open
            self._count_from(partition, progress.position)
        self._partitions[number] = partition
        return partition.position

    def drop(self, partitions: Iterable[int]) -> None:
        """Give partitions up. What is durable of them stays, for whoever may go on with it."""
        self._settle()  # first: a partial's name may hold what an exchange brought out
        for number in partitions:
            partition = self._partitions.get(number)
            if partition is not None:
                for transfer in partition.assembler.open_transfers():
                    self._leave(transfer, number)
                del self._partitions[number]
        self._clear_away()

    def forget(self, partitions: Iterable[int]) -> None:
        """Give partitions up whose partials can't be removed: the next start removes them."""
        for number in partitions:
            self._partitions.pop(number, None)
        self._clear_away()

    def receive(self, records: Sequence[Record]) -> None:
        """Put a batch of records where they belong, and publish what is complete."""
        self._backlog.extend(
            _decode(record)
            for record in records
            if record.partition in self._partitions and record.partition not in self._rewinds
        )
        self.resume()

    def resume(self) -> None:
        """Do what is to be done: the rest of the last batch, too, if the disk failed amid it."""
        while True:
            try:
                self._work()
            except DiskError as error:
                self._unsettled.update(self._partitions)
                if error.spoiled is not None:
                    self._spoiled.append(error.spoiled)
                if not (error.no_space and self._give_up_youngest()):
                    self._save_counts()
                    raise
            else:
                return

    def checkpoint(self, *, leaving: bool = False) -> None:
        """Make what came of large files durable, if it is time, or before partitions are left."""
        try:
            self._checkpoint.take(leaving=leaving)
        except DiskError as error:
            if error.spoiled is not None:
                self._spoiled.append(error.spoiled)
            raise

    def catch_up(self, size: int) -> bool:
        """Read at most ``size`` bytes of partials again for their digests; whether there are more.

        :meth:`receive` does it all, if that was not done before.
        """
        try:
            return self._restoring.catch_up(self._partitions, size)
        except DiskError as error:
            if error.spoiled is not None:
                self._spoiled.append(error.spoiled)
            raise

    def pass_time(self, seconds: float, at_end: Collection[int]) -> None:
        """So much time has passed; in these partitions nothing more was there to be read."""
        for number in at_end:
            partition = self._partitions[number]
            partition.clock += seconds
            for transfer in partition.idle(self._terms.incomplete_timeout):
                self._expire(partition, transfer)
            for tid in partition.give_up_deferred(self._terms.incomplete_timeout):
                self._bad.add(Reason.EXPIRED, number, partition.position, "no space for it")
                self._losses.lose(self._terms.topic, tid, Reason.EXPIRED)
        if self._failed:
            self.resume()

    def reset(self, number: int, low: int, high: int) -> None:
        """The topic has lost what was to be read next: go on with the oldest that it has."""
        partition = self._partitions[number]
        if partition.position > high:  # not even what was read is there any more
            topic_id = partition.topic_id
            self.drop([number])
            self._counted.pop((topic_id, number), None)
            self.take(number, topic_id, low)
            return
        lost = low - max(partition.position, partition.reached)
        if lost > 0:
            self._bad.add(Reason.OFFSETS_LOST, number, low, "the topic has lost them", lost)
        for tid in partition.assembler.behead(low):
            partition.deferred.pop(tid, None)
            self._losses.lose(self._terms.topic, tid, Reason.HEAD_LOST)
        partition.advance(low)
        self._save_counts()

    def try_deferred(self) -> None:
        """Go back to files that had to wait for space, if there is some now."""
        waiting = [one for one in self._partitions.values() if one.deferred]
        if waiting:
            self._look_at_space()
        for partition in waiting:
            first_offsets = partition.assembler.first_offsets
            fitting = [
                tid for tid, one in partition.deferred.items()
                if self._space.fits(one.size, at_once=one.at_once)
            ]  # fmt: skip
            if fitting:
                self._rewind(partition, min(first_offsets[tid] for tid in fitting))

    def deferred(self) -> list[int]:
        """The sizes of the files that wait for space, in bytes."""
        return [
            one.size for partition in self._partitions.values()
            for one in partition.deferred.values()
        ]  # fmt: skip

    def take_rewinds(self) -> dict[int, int]:
        """Partition → offset to read on from, instead of where the client is; each told once."""
        rewinds, self._rewinds = self._rewinds, {}
        return rewinds

    def safe_offsets(self) -> dict[int, int]:
        """The offset to commit for each partition."""
        return {
            number: partition.assembler.safe_offset(partition.position)
            for number, partition in self._partitions.items()
        }

    def progress(self) -> dict[int, Progress]:
        """The offset to commit for each partition, and what is to be said with it."""
        return {number: partition.progress() for number, partition in self._partitions.items()}

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

    def held(self) -> set[PartKey]:
        """The keys of their partials."""
        return {
            PartKey(transfer.tid, partition.number)
            for partition in self._partitions.values()
            for transfer in partition.assembler.open_transfers()
        }

    def _work(self) -> None:
        self._settle()
        self._void_spoiled()
        while self._restoring.catch_up(self._partitions, 1 << 30):
            pass
        self._accept_backlog()
        over = self._publisher.publish(self._complete)
        self._close(over)
        self._complete = [one for one in self._complete if one not in over]
        self._close(self._publisher.reject(self._failed))
        self._failed = []
        self._save_counts()

    def _settle(self) -> None:
        """Bring to their end what was to be renamed, before anything of it is read again."""
        if self._unsettled:
            self._publisher.recover(self._unsettled)
            over = self._publisher.ended(self._complete)
            for one in over:
                self._partials.discard(one.key)  # what an exchange has left: the older version
            self._close(over)
            self._complete = [one for one in self._complete if one not in over]
            self._unsettled.clear()

    def _void_spoiled(self) -> None:
        """Read again from the first record what a disk may have lost."""
        while self._spoiled:
            key = self._spoiled[-1]
            self._partials.discard(key)
            self._spoiled.pop()
            partition = self._partitions.get(key.partition)
            if partition is not None and key.tid in partition.assembler:
                self._void(partition, key.tid)

    def _void(self, partition: Partition, tid: bytes) -> None:
        transfer = partition.assembler.find(tid)
        if transfer is not None:
            self._checkpoint.forget(transfer)
        self._complete = [one for one in self._complete if one.transfer is not transfer]
        self._rewind(partition, partition.assembler.void(tid))

    def _rewind(self, partition: Partition, offset: int) -> None:
        number = partition.number
        partition.position = min(partition.position, offset)
        self._rewinds[number] = partition.position
        self._backlog = deque(one for one in self._backlog if one[0].partition != number)

    def _accept_backlog(self) -> None:
        known = self._closed()
        if any(isinstance(header, Header) and header.begin for _, header in self._backlog):
            self._look_at_space()
        while self._backlog:
            record, header = self._backlog[0]
            partition = self._partitions[record.partition]
            if isinstance(header, Header):
                self._accept(partition, record, header, known[record.partition])
            else:
                self._count(header.reason, record, header.detail)
            if record.partition not in self._rewinds:
                # only now: had it failed, its partition would go on before this record
                self._backlog.popleft()
                partition.advance(record.offset + 1)
                self._count_from(partition, record.offset + 1)

    def _closed(self) -> dict[int, Collection[bytes]]:
        """Partition → those tids of the backlog that have ended here; one look for each."""
        unknown: dict[int, set[bytes]] = {record.partition: set() for record, _ in self._backlog}
        for record, header in self._backlog:
            assembler = self._partitions[record.partition].assembler
            if isinstance(header, Header) and header.tid not in assembler:
                unknown[record.partition].add(header.tid)
        reader = self._ledger.reader()
        route = self._terms.route
        return {
            number: incoming.closed(
                reader, route, self._partitions[number].topic_id, number, list(tids)
            )
            for number, tids in unknown.items()
        }

    def _look_at_space(self) -> None:
        opened = [t for one in self._partitions.values() for t in one.receiving()]
        oldest = min((transfer.tid for transfer in opened), default=None)
        self._space.look(sum(one.expected() for one in self._partitions.values()), oldest)

    def _accept(
        self, partition: Partition, record: Record, header: Header, known: Collection[bytes]
    ) -> None:
        verdict = self._judge(partition, record, header, known)
        match verdict:
            case Append(transfer, first, complete):
                assert record.value is not None
                if not first or self._admit(partition, transfer, len(record.value)):
                    self._append(partition, transfer, record)
                    if complete:
                        self._complete.append(_whole(partition, transfer))
            case Drop(reason):
                self._drop_record(partition, record, header, reason, known)
            case Aborted(transfer):
                log.info("%s: given up by its sender", transfer.tid.hex())
                self._discard(partition, transfer)
            case Failed(transfer, reason):
                self._fail(partition, transfer, reason, record)
            case Skip():
                pass

    def _judge(
        self, partition: Partition, record: Record, header: Header, known: Collection[bytes]
    ) -> Verdict:
        """The assembler's verdict, once more if an idle transfer makes room for a newcomer."""
        verdict = partition.assembler.accept(record.offset, header, record.value, known)
        if isinstance(verdict, Drop) and verdict.reason is Reason.TOO_MANY_OPEN:
            idlest = partition.idlest()
            if idlest is not None:
                self._expire(partition, idlest)
                verdict = partition.assembler.accept(record.offset, header, record.value, known)
        if isinstance(verdict, Append) and verdict.first:
            return self._unless_huge(partition, verdict)
        return verdict

    def _unless_huge(self, partition: Partition, verdict: Append) -> Verdict:
        """What could not be here even alone is refused, and doesn't wait for space."""
        begin = verdict.transfer.begin
        if not self._space.is_too_small(begin.size):
            return verdict
        partition.assembler.take_back(verdict.transfer, begin.chunk_length(0))
        return Drop(Reason.TOO_BIG)

    def _admit(self, partition: Partition, transfer: OpenTransfer, length: int) -> bool:
        """Whether there is room for a file; else it is read again later, when there is."""
        size = transfer.begin.size
        if self._space.fits(size, at_once=transfer.begin.chunks == 1):
            self._space.take(size)
            partition.deferred.pop(transfer.tid, None)
            return True
        if len(partition.deferred) >= MAX_DEFERRED:
            partition.assembler.take_back(transfer, length)
            raise self._space.full()
        partition.defer(transfer)
        return False

    def _append(self, partition: Partition, transfer: OpenTransfer, record: Record) -> None:
        assert record.value is not None
        key = PartKey(transfer.tid, record.partition)
        length = len(record.value)
        try:
            self._partials.append(key, transfer.received - length, record.value)
        except DiskError as error:
            if error.spoiled is None or transfer.next_index == 1:
                partition.assembler.take_back(transfer, length)
                self._restoring.hash_again(partition, transfer)
            raise
        transfer.touched = partition.clock
        if transfer.begin.chunks > 1:
            self._checkpoint.note(transfer, partition.topic_id, partition.number, record.offset)

    def _drop_record(
        self, partition: Partition, record: Record, header: Header, reason: Reason,
        known: Collection[bytes],
    ) -> None:  # fmt: skip
        if record.offset >= self._counted_below(partition):
            self._losses.dropped(partition, header, reason, known)
        self._count(reason, record)
        if header.tid not in partition.assembler.first_offsets:
            partition.deferred.pop(header.tid, None)

    def _fail(
        self, partition: Partition, transfer: OpenTransfer, reason: Reason, record: Record
    ) -> None:
        """A transfer can't become whole any more; it stays until that is on record, so that what
        repeats it is a duplicate. One that was restored may be the fault of our disk."""
        if reason is Reason.DIGEST_MISMATCH and transfer.restored:
            log.warning("%s: its partial is damaged: it is read again", transfer.tid.hex())
            self._spoiled.append(PartKey(transfer.tid, partition.number))
            self._void_spoiled()
            return
        self._count(reason, record)
        self._failed.append((_whole(partition, transfer), Rejection("quarantined", reason)))
        self._checkpoint.forget(transfer)

    def _expire(self, partition: Partition, transfer: OpenTransfer) -> None:
        """Close a transfer of which nothing came for too long."""
        idle = partition.clock - transfer.touched
        room = " and others needed its place" if idle < self._terms.incomplete_timeout else ""
        reason = f"nothing more of it came for {human_duration(idle)}{room}"
        partition.assembler.end(transfer)
        self._bad.add(Reason.EXPIRED, partition.number, transfer.first_offset, reason)
        self._failed.append((_whole(partition, transfer), Rejection("expired", reason)))
        self._checkpoint.forget(transfer)

    def _give_up_youngest(self) -> bool:
        """Let the youngest file wait for space, so that others can be finished; false if the last
        one is the oldest of all on this file system."""
        opened = [
            (transfer.tid, partition)
            for partition in self._partitions.values()
            for transfer in partition.receiving()
        ]
        if not opened or (len(opened) == 1 and self._space.is_oldest(opened[0][0])):
            return False
        tid, partition = max(opened, key=lambda one: one[0])
        transfer = partition.assembler.find(tid)
        assert transfer is not None
        self._partials.discard(PartKey(tid, partition.number))
        self._checkpoint.forget(transfer)
        partition.defer(transfer)
        log.warning("%s: waits for space, so that older files can be finished", tid.hex())
        return True

    def _discard(self, partition: Partition, transfer: OpenTransfer) -> None:
        self._checkpoint.forget(transfer)
        self._partials.discard(PartKey(transfer.tid, partition.number))
        partition.assembler.close(transfer.tid)

    def _leave(self, transfer: OpenTransfer, number: int) -> None:
        """Close a partial; one that isn't durable goes."""
        self._checkpoint.forget(transfer)
        key = PartKey(transfer.tid, number)
        if transfer.saved and key not in self._spoiled:
            self._partials.forget(key)
        else:
            self._partials.discard(key)

    def _clear_away(self) -> None:
        """Keep nothing of partitions that are not ours."""
        ours = self._partitions
        self._backlog = deque(one for one in self._backlog if one[0].partition in ours)
        self._complete = [one for one in self._complete if one.partition in ours]
        self._failed = [one for one in self._failed if one[0].partition in ours]
        self._spoiled = [key for key in self._spoiled if key.partition in ours]
        self._rewinds = {number: at for number, at in self._rewinds.items() if number in ours}

    def _close(self, over: Iterable[Complete]) -> None:
        for one in over:
            self._checkpoint.forget(one.transfer)
            self._partitions[one.partition].assembler.close(one.transfer.tid)

    def _counted_below(self, partition: Partition) -> int:
        return self._counted.get((partition.topic_id, partition.number), 0)

    def _count_from(self, partition: Partition, offset: int) -> None:
        """What is before ``offset`` was counted, here or by who read it before."""
        key = partition.topic_id, partition.number
        self._counted[key] = max(offset, self._counted.get(key, 0))

    def _count(self, reason: Reason, record: Record, detail: str = "") -> None:
        if record.offset >= self._counted_below(self._partitions[record.partition]):
            self._bad.add(reason, record.partition, record.offset, detail)

    def _save_counts(self) -> None:
        """Before the offset is committed; killed in between, they are counted twice, not never."""
        bad, route = self._bad.take(), self._terms.route
        lost, repeated = self._losses.take()
        if bad or lost or repeated:
            self._ledger.write_patiently(
                lambda db: incoming.note_dropped(db, route, bad, lost, repeated)
            )


def _decode(record: Record) -> Decoded:
    try:
        return record, decode_headers(record.headers)
    except BadRecord as bad:
        return record, bad


def _whole(partition: Partition, transfer: OpenTransfer) -> Complete:
    return Complete(transfer, partition.topic_id, partition.number)
