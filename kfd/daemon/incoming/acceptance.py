"""What becomes of each record: its bytes go into a partial, or it is dropped and counted, or it
ends its transfer."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from kfd.daemon.incoming.checkpoint import Checkpoint
from kfd.daemon.incoming.deferral import Deferral
from kfd.daemon.incoming.drops import Drops
from kfd.daemon.incoming.outcomes import Outcomes
from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.incoming.record import Record
from kfd.daemon.incoming.restoring import Restoring
from kfd.daemon.incoming.scattered import Scattered
from kfd.daemon.incoming.spoiled import Spoiled
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.incoming.transferlog import tell
from kfd.daemon.ledger import Ledger, incoming
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import DiskError, Partials
from kfd.scattered import Piece
from kfd.transfer import OpenTransfer
from kfd.verdict import Aborted, Append, Drop, Failed, Skip, Undecided, Verdict
from kfd.wire import BadRecord, Header, Reason


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Of one consumer thread; made of that thread's parts."""

    terms: Terms
    ledger: Ledger
    reading: Reading
    drops: Drops
    outcomes: Outcomes
    spoiled: Spoiled
    deferral: Deferral
    restoring: Restoring
    partials: Partials
    checkpoint: Checkpoint
    scattered: Scattered

    def accept_backlog(self) -> bool:
        """Look at all that was read. Raises :class:`DiskError`; the record that met it comes first
        the next time. False if what is complete must be published before it goes on."""
        backlog = self.reading.backlog
        known = self._ended()
        if any(isinstance(header, Header) and header.begin for _, header in backlog):
            self.deferral.look()
        pieces = [header for _, header in backlog if isinstance(header, Piece)]
        if pieces:
            self.scattered.look(pieces)
        while self.reading.backlog:
            record, header = self.reading.backlog[0]
            partition = self.reading[record.partition]
            if isinstance(header, Header):
                self._accept(partition, record, header, known[record.partition])
            elif isinstance(header, BadRecord):
                self.drops.count(partition, record.offset, header.reason, header.detail)
            elif not self.scattered.accept(partition, record, header):
                return False
            # only now: had it failed, its partition would go on before this record
            if self.reading.is_passed(record):
                self.drops.passed(partition, record.offset + 1)
        return True

    def _ended(self) -> dict[int, Collection[bytes]]:
        """Partition → those tids of the backlog that have ended here; one look for each."""
        backlog = self.reading.backlog
        unknown: dict[int, set[bytes]] = {record.partition: set() for record, _ in backlog}
        for record, header in backlog:
            assembler = self.reading[record.partition].assembler
            if isinstance(header, Header) and header.tid not in assembler:
                unknown[record.partition].add(header.tid)
        reader, route = self.ledger.reader(), self.terms.route
        return {
            number: incoming.closed(
                reader, route, self.reading[number].topic_id, number, list(tids)
            )
            for number, tids in unknown.items()
        }

    def _accept(
        self, partition: Partition, record: Record, header: Header, known: Collection[bytes]
    ) -> None:
        match self._judge(partition, record, header, known):
            case Append(transfer, first, complete):
                assert record.value is not None
                if not first or self.deferral.admit(partition, transfer, len(record.value)):
                    self._append(partition, transfer, record, record.value)
                    if complete:
                        self.outcomes.complete(partition, transfer)
            case Drop(reason):
                self._drop(partition, record, header, reason, known)
            case Aborted(transfer):
                self.outcomes.abort(partition, transfer)
            case Failed(transfer, reason):
                self._fail(partition, transfer, reason, record)
            case Skip() | Undecided():
                pass

    def _judge(
        self, partition: Partition, record: Record, header: Header, known: Collection[bytes]
    ) -> Verdict:
        """The assembler's verdict, once more if an idle transfer makes room for a newcomer."""
        verdict = partition.assembler.accept(record.offset, header, record.value, known)
        if isinstance(verdict, Drop) and verdict.reason is Reason.TOO_MANY_OPEN:
            idlest = partition.idlest()
            if idlest is not None:
                self.outcomes.expire(partition, idlest)
                verdict = partition.assembler.accept(record.offset, header, record.value, known)
        if isinstance(verdict, Append) and verdict.first:
            return self.deferral.unless_huge(partition, verdict)
        return verdict

    def _append(
        self, partition: Partition, transfer: OpenTransfer, record: Record, value: bytes
    ) -> None:
        key = PartKey(transfer.tid, record.partition)
        length = len(value)
        try:
            self.partials.append(key, transfer.received - length, value)
        except DiskError as error:
            if error.spoiled is None or transfer.next_index == 1:
                partition.assembler.take_back(transfer, length)
                self.restoring.hash_again(partition, transfer)
            raise
        transfer.touched = partition.clock
        if transfer.begin.chunks > 1:
            self.checkpoint.note(transfer, partition.topic_id, partition.number, record.offset)

    def _drop(
        self, partition: Partition, record: Record, header: Header, reason: Reason,
        known: Collection[bytes],
    ) -> None:  # fmt: skip
        self.drops.drop(partition, record, header, reason, known)
        if header.tid not in partition.assembler.first_offsets:
            partition.deferred.pop(header.tid, None)

    def _fail(
        self, partition: Partition, transfer: OpenTransfer, reason: Reason, record: Record
    ) -> None:
        """A transfer can't become whole any more. One that was restored may be the fault of our
        disk."""
        if reason is Reason.DIGEST_MISMATCH and transfer.restored:
            why = "its partial is damaged: it is read again"
            tell(logging.WARNING, self.terms.route, transfer, why)
            self.spoiled.void_one(PartKey(transfer.tid, partition.number))
        else:
            self.outcomes.fail(partition, transfer, reason, record.offset)
