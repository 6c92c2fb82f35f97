"""What one consumer thread makes of the records of its partitions: files, put together in order.

Knows nothing of Kafka's client: records come in as plain values, and what may be committed goes
out. Nothing is in memory only that an offset has passed: an offset is safe when every transfer that
began before it is published, or on record as rejected.

Where it reads is in ``reading.py``, what becomes of each record in ``acceptance.py``, of each
transfer that ends in ``outcomes.py``, of those that don't fit in ``deferral.py``, of those that a
disk has spoiled in ``spoiled.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from kfd.assembly import Assembler
from kfd.daemon.incoming.acceptance import Acceptance
from kfd.daemon.incoming.checkpoint import Checkpoint
from kfd.daemon.incoming.deferral import Deferral
from kfd.daemon.incoming.drops import Drops
from kfd.daemon.incoming.outcomes import Outcomes
from kfd.daemon.incoming.partition import Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.incoming.record import Record, decode, decode_mixed
from kfd.daemon.incoming.restoring import Restoring
from kfd.daemon.incoming.scattered import Scattered
from kfd.daemon.incoming.space import Space
from kfd.daemon.incoming.spoiled import Spoiled
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.ledger import Ledger
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import DiskError, Partials
from kfd.daemon.publishing.publisher import Publisher
from kfd.daemon.throttle import Throttle
from kfd.offsets import Progress
from kfd.scattered import Gathering
from kfd.transfer import OpenTransfer
from kfd.wire import Reason

HASHED_AT_ONCE = 1 << 30  # bytes of partials, where nobody waits between
VERIFIED_AT_ONCE = 64 << 20  # bytes of complete files that are spread; others between two polls


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
        self._partials = partials
        self._publisher = publisher
        gathering = Gathering(terms.topic, terms.max_size)
        self._reading = Reading(gathering, decode_mixed if terms.mixed else decode)
        self._drops = Drops(terms.route, terms.topic, ledger, throttle)
        self._checkpoint = Checkpoint(partials)
        self._restoring = Restoring(terms.route, ledger, partials)
        self._outcomes = Outcomes(
            terms, self._reading, self._drops, partials, publisher, self._checkpoint
        )
        self._spoiled = Spoiled(self._reading, partials, self._checkpoint, self._outcomes)
        self._deferral = Deferral(terms, self._reading, space, partials, self._checkpoint)
        self._scattered = Scattered(
            *(terms, ledger, self._reading, self._drops, self._outcomes, self._deferral),
            *(space, partials),
        )
        self._acceptance = Acceptance(
            *(terms, ledger, self._reading, self._drops, self._outcomes, self._spoiled),
            *(self._deferral, self._restoring, partials, self._checkpoint, self._scattered),
        )

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
            partition.inherit(progress, held)
            self._drops.passed(partition, progress.position)
        self._reading.add(partition)
        return partition.position

    def drop(self, partitions: Iterable[int]) -> None:
        """Give partitions up. What is durable of them stays, for whoever may go on with it."""
        self._outcomes.settle()  # first: a partial's name may hold what an exchange brought out
        partitions = list(partitions)
        self._scattered.leave(partitions)
        for number in partitions:
            partition = self._reading.get(number)
            if partition is not None:
                for transfer in partition.assembler.open_transfers():
                    self._leave(transfer, number)
                self._reading.remove(number)
        self._clear_away()

    def forget(self, partitions: Iterable[int]) -> None:
        """Give partitions up whose partials can't be removed: the next start removes them."""
        partitions = list(partitions)
        self._scattered.forget(partitions)
        for number in partitions:
            self._reading.remove(number)
        self._clear_away()

    def receive(self, records: Sequence[Record]) -> None:
        """Put a batch of records where they belong, and publish what is complete."""
        self._reading.put(records)
        self.resume()

    def resume(self) -> None:
        """Do what is to be done: the rest of the last batch, too, if the disk failed amid it."""
        while True:
            try:
                with self._spoiled.noted():
                    self._work()
            except DiskError as error:
                self._outcomes.interrupted()
                if not (error.no_space and self._give_up_youngest()):
                    self._drops.save()
                    raise
            else:
                return

    def checkpoint(self, *, leaving: bool = False) -> None:
        """Make what came of large files durable, if it is time, or before partitions are left."""
        with self._spoiled.noted():
            self._checkpoint.take(leaving=leaving)

    def catch_up(self, size: int) -> bool:
        """Read at most ``size`` bytes of partials again for their digests; whether there are more.

        :meth:`receive` does it all, if that was not done before; but of a large file that is
        spread only as much as this at a time.
        """
        with self._spoiled.noted():
            more = self._restoring.catch_up(self._reading, size) or self._scattered.verify(size)
        if self._scattered.any_verified or self._outcomes.any_rejected:
            self.resume()
        return more

    def pass_time(self, seconds: float, at_end: Collection[int]) -> None:
        """So much time has passed; in these partitions nothing more was there to be read."""
        timeout = self._terms.incomplete_timeout
        for number in at_end:
            partition = self._reading[number]
            partition.clock += seconds
            for transfer in partition.idle(timeout):
                self._outcomes.expire(partition, transfer)
            for tid in partition.give_up_deferred(timeout):
                self._drops.add(Reason.EXPIRED, partition, partition.position, "no space for it")
                self._drops.lose(tid, Reason.EXPIRED)
        if len(at_end) == len(self._reading.positions()):
            self._scattered.pass_time(seconds)
        if self._outcomes.any_rejected:
            self.resume()

    def reset(self, number: int, low: int, high: int) -> None:
        """The topic has lost what was to be read next: go on with the oldest that it has."""
        partition = self._reading[number]
        if partition.position > high:  # not even what was read is there any more
            self.drop([number])
            self._drops.begins_anew(partition)
            self.take(number, partition.topic_id, low)
            return
        lost = low - max(partition.position, partition.reached)
        if lost > 0:
            self._drops.add(Reason.OFFSETS_LOST, partition, low, "the topic has lost them", lost)
        for tid in partition.assembler.behead(low):
            partition.deferred.pop(tid, None)
            self._drops.lose(tid, Reason.HEAD_LOST)
        partition.advance(low)
        self._drops.save()

    def try_deferred(self) -> None:
        """Go back to files that had to wait for space, if there is some now."""
        self._deferral.retry()
        self._scattered.retry()

    def deferred(self) -> list[int]:
        """The sizes of the files that wait for space, in bytes."""
        return self._deferral.sizes() + self._scattered.sizes()

    def take_rewinds(self) -> dict[int, int]:
        """Partition → offset to read on from, instead of where the client is; each told once."""
        return self._reading.take_rewinds()

    def safe_offsets(self) -> dict[int, int]:
        """The offset to commit for each partition."""
        return self._reading.safe_offsets()

    def progress(self) -> dict[int, Progress]:
        """The offset to commit for each partition, and what is to be said with it."""
        return self._reading.progress()

    def positions(self) -> dict[int, int]:
        """The next offset of each partition."""
        return self._reading.positions()

    def open_transfers(self) -> list[OpenTransfer]:
        """Files of several records that are being put together."""
        return self._reading.open_transfers()

    def held(self) -> set[PartKey]:
        """The keys of their partials."""
        return self._reading.held()

    def _work(self) -> None:
        self._outcomes.settle()
        self._spoiled.void()
        while self._restoring.catch_up(self._reading, HASHED_AT_ONCE):
            pass
        while True:
            length = len(self._reading.backlog)
            done = self._acceptance.accept_backlog()
            waiting = self._scattered.verify(VERIFIED_AT_ONCE)
            self._drops.save()  # first: what repeats a transfer that is on record isn't counted
            self._scattered.date()
            self._outcomes.record()
            if done:
                return
            if waiting or len(self._reading.backlog) == length:
                self._reading.rewind_leftovers()
                return

    def _give_up_youngest(self) -> bool:
        return self._deferral.give_up_youngest() or self._scattered.give_up_youngest()

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
        for part in (self._reading, self._outcomes, self._spoiled):
            part.clear_away()
