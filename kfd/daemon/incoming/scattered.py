"""The peer's files, whose chunks lie on all partitions: written where they belong as they come, and
verified when all are there.

Nothing of them outlives this process but what is published: after a restart, or when a partition
comes back, their records are read again. Their first records hold back what is committed of every
partition that has some.
"""

from __future__ import annotations

import errno
import hashlib
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from blake3 import blake3

from kfd.daemon.incoming.deferral import MAX_DEFERRED, Deferral
from kfd.daemon.incoming.drops import Drops
from kfd.daemon.incoming.outcomes import Outcomes
from kfd.daemon.incoming.partition import IDLE_SECONDS, Partition
from kfd.daemon.incoming.reading import Reading
from kfd.daemon.incoming.record import Record
from kfd.daemon.incoming.repeats import Repeats
from kfd.daemon.incoming.space import Space
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.ledger import Ledger, scattered
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import DiskError, Partials
from kfd.openmsistream import Chunk
from kfd.scattered import ORIGIN, Bitmap, Ended, Piece, Place, ScatteredTransfer
from kfd.transfer import Spread, State
from kfd.units import human_duration
from kfd.verdict import Append, Drop, Failed, Undecided, Verdict
from kfd.wire import Reason

_MOST: int = 1 << 62  # a generation; a record may claim to be of any time


@dataclass(slots=True)
class _Check:
    """A file that is complete, and of which so many bytes were read again."""

    transfer: ScatteredTransfer
    there: Bitmap  # the transfer has another one when it was begun anew
    read: int = 0
    sha512: hashlib._Hash = field(default_factory=hashlib.sha512)
    digest: blake3 = field(default_factory=blake3)

    @property
    def is_void(self) -> bool:
        return self.transfer.there is not self.there

    def update(self, data: bytes, /) -> None:
        self.sha512.update(data)
        self.digest.update(data)


class Scattered:
    """Of one consumer thread. Methods may raise :class:`DiskError`."""

    def __init__(
        self, terms: Terms, ledger: Ledger, reading: Reading, drops: Drops, outcomes: Outcomes,
        deferral: Deferral, space: Space, partials: Partials,
    ) -> None:  # fmt: skip
        self._terms = terms
        self._ledger = ledger
        self._reading = reading
        self._drops = drops
        self._outcomes = outcomes
        self._deferral = deferral
        self._space = space
        self._partials = partials
        self._gathering = reading.gathering
        self._ended: dict[bytes, Ended] = {}
        self._repeated: dict[bytes, Spread] = {}  # by version, since the ledger was told
        self._repeats = Repeats()
        self._unverified: deque[_Check] = deque()
        self._verified: dict[ScatteredTransfer, None] = {}  # some maybe begun anew since
        self._crowded_until = 0.0  # by the clock: before, none of the open ones is idle for long

    def look(self, pieces: Collection[Piece]) -> None:
        """Look up what is known of the versions of a batch: one question for all."""
        unknown = {one.version for one in pieces if one.version not in self._gathering}
        if unknown:
            self._deferral.look()
        self._ended = scattered.ended(
            self._ledger.reader(), self._terms.route, self._topic_id(), sorted(unknown)
        )

    def accept(self, partition: Partition, record: Record, piece: Piece) -> bool:
        """Do with a record what is to be done. False if that shows only when what is complete has
        been published: then it comes again."""
        at = self._place_of(partition, record, piece)
        if not partition.is_passed_over(at, piece.version):
            place = Place(partition.topic_id, partition.number, at, record.timestamp)
            if not self._take(partition, record, piece, place):
                return False
        self._repeats.note(record, piece, at)
        return True

    def _place_of(self, partition: Partition, record: Record, piece: Piece) -> int:
        """The offset at which a record counts as lying: not that of one that was refused."""
        first, version = self._repeats.first(record, piece), piece.version
        known = version in self._gathering or version in self._ended
        return first if known or partition.is_passed_over(first, version) else record.offset

    def _take(self, partition: Partition, record: Record, piece: Piece, place: Place) -> bool:
        match self._judge(place, piece):
            case Append(ScatteredTransfer() as transfer, first):
                if not first or self._admit(partition, record, transfer):
                    self._write(partition, record, transfer, piece.chunk, first)
            case Drop(reason):
                self._drops.count(partition, record.offset, reason)
                if reason is Reason.DUPLICATE:
                    self._repeat(place, piece.version)
            case Failed(ScatteredTransfer() as transfer, reason):
                self._drops.count(partition, record.offset, reason)
                self._outcomes.refuse(self._reading[transfer.home], transfer, reason)
            case Undecided():
                return False
        return True

    def _repeat(self, place: Place, version: bytes) -> None:
        """A record repeats the version that was published last: it may be the beginning of another
        upload, after one that isn't complete yet."""
        ended = self._ended.get(version)
        if ended is not None and ended.newest is not None and version not in self._gathering:
            spread = self._repeated.get(version)
            lasts = dict(spread.lasts) if spread else {}
            at = max(place.timestamp, spread.last_at if spread else 0)
            lasts[place.partition] = max(place.offset, lasts.get(place.partition, -1))
            self._repeated[version] = Spread(version, ended.newest, lasts, at, repeated=True)

    def verify(self, size: int) -> bool:
        """Read at most ``size`` bytes of complete files again, and compare; whether there are
        more."""
        while self._unverified and size > 0:
            check = self._unverified[0]
            if not check.is_void:
                end = min(check.transfer.begin.size, check.read + size)
                self._partials.hash(_key(check.transfer), check, check.read, end)
                size -= end - check.read
                check.read = end
                if end < check.transfer.begin.size:
                    continue
                self._conclude(check)
            self._unverified.popleft()
        return bool(self._unverified)

    @property
    def any_verified(self) -> bool:
        """Whether there is something to be published."""
        return bool(self._verified)

    def date(self) -> None:
        """Give what is verified its generation, and on to be published."""
        self._save_repeated()
        if not self._verified:
            return
        verified = [one for one in self._verified if one.digest is not None]
        self._verified.clear()
        paths = sorted({one.begin.path for one in verified})
        newest = scattered.newest(
            self._ledger.reader(), self._terms.route, self._topic_id(), ORIGIN, paths
        )
        for one in verified:
            generation, path = min(1000 * max(0, one.last_at), _MOST), one.begin.path
            before, spread = newest.get(path, (None, None))
            if before is not None and spread is not None and not one.follows(spread):
                generation = max(0, min(generation, before - 1))
            elif before is not None:
                generation = max(generation, before + 1)
            if before is None or generation > before:
                newest[path] = generation, one.spread
            one.begin = replace(one.begin, generation=generation)
            self._outcomes.complete(self._reading[one.home], one)

    def _save_repeated(self) -> None:
        """Before what they repeat is compared with others, and before their offsets are passed."""
        more, self._repeated = list(self._repeated.values()), {}
        route, topic_id = self._terms.route, self._topic_id()
        if more:
            self._ledger.write_patiently(lambda db: scattered.extend(db, route, topic_id, more))

    def pass_time(self, seconds: float) -> None:
        """So much time has passed in which no partition had anything more to be read."""
        self._gathering.clock += seconds
        for one in self._gathering.idle(self._terms.incomplete_timeout):
            self._expire(one)

    def retry(self) -> None:
        """Go back to files that had to wait for space, if there is some now."""
        waiting = self._waiting()
        if waiting:
            self._deferral.look()
        for one in waiting:
            if self._fits(one):
                self._reading.read_again(one)

    def sizes(self) -> list[int]:
        """Of the files that wait, in bytes, as far as is known."""
        return [one.begin.size for one in self._waiting()]

    def give_up_youngest(self) -> bool:
        """Let the youngest file wait, so that others can be finished; false for the only one."""
        begun = [one for one in self._gathering.receiving() if one.there.count]
        if len(begun) < 2:
            return False
        self._partials.discard(_key(begun[-1]))
        self._gathering.reset(begun[-1])
        begun[-1].waits = True
        return True

    def leave(self, partitions: Collection[int]) -> None:
        """These are not read here any more: nothing of what has records there is kept."""
        for one in self._of(partitions):
            self._partials.discard(_key(one))
        self.forget(partitions)

    def forget(self, partitions: Collection[int]) -> None:
        """As :meth:`leave`, whatever becomes of the partials."""
        self._repeats.forget(partitions)
        for one in self._of(partitions):
            self._outcomes.take_back(one)
            self._verified.pop(one, None)
            for number in partitions:
                one.forget(number)
            if one.firsts:
                self._reading.read_again(one)
            else:
                self._gathering.reset(one)
                self._gathering.close(one)

    def _judge(self, place: Place, piece: Piece) -> Verdict:
        """The verdict, once more if an idle file makes room: at once, or when that is on record."""
        gathering = self._gathering
        verdict = gathering.accept(place, piece, self._ended.get(piece.version))
        if verdict == Drop(Reason.TOO_MANY_OPEN) and self._make_room(piece.version):
            verdict = gathering.accept(place, piece, self._ended.get(piece.version))
            return Undecided() if verdict == Drop(Reason.TOO_MANY_OPEN) else verdict
        return verdict

    def _make_room(self, version: bytes) -> bool:
        """Close the idlest file that is not of this version; false if none is idle for long."""
        gathering = self._gathering
        if gathering.clock < self._crowded_until:
            return False
        others = [one for one in gathering.receiving() if one.there.count]
        others = [one for one in others if one.version != version]
        idlest = min(others, key=lambda one: one.touched, default=None)
        if idlest is None or gathering.clock - idlest.touched < IDLE_SECONDS:
            self._crowded_until = (idlest.touched if idlest else gathering.clock) + IDLE_SECONDS
            return False
        self._expire(idlest)
        return True

    def _admit(self, partition: Partition, record: Record, transfer: ScatteredTransfer) -> bool:
        """Whether there is room for a file; else it is read again later, or is refused. Others wait
        with it only when the disk is full, not for what it claims to need."""
        if self._space.is_too_small(transfer.begin.size):
            self._gathering.close(transfer)
            self._drops.count(partition, record.offset, Reason.TOO_BIG)
            return False
        if self._fits(transfer):
            self._space.take(transfer.begin.size)
            return True
        if len(self._waiting()) >= MAX_DEFERRED:
            self._gathering.close(transfer)
            if not self._space.fits(len(record.value or b""), at_once=True):
                raise self._space.full()
            self._drops.count(partition, record.offset, Reason.TOO_MANY_OPEN)
            return False
        transfer.waits = True
        return False

    def _fits(self, transfer: ScatteredTransfer) -> bool:
        begin = transfer.begin
        return self._space.fits(begin.size, at_once=begin.chunks == 1)

    def _write(
        self, partition: Partition, record: Record, transfer: ScatteredTransfer, chunk: Chunk,
        first: bool,
    ) -> None:  # fmt: skip
        try:
            self._partials.write(_key(transfer), chunk.offset, chunk.data, new=first)
        except DiskError as error:
            if not _is_too_far(error):
                raise
            transfer.state = State.FAILED
            self._drops.count(partition, record.offset, Reason.TOO_BIG)
            self._outcomes.refuse(self._reading[transfer.home], transfer, Reason.TOO_BIG)
            return
        self._gathering.wrote(transfer, chunk)
        if transfer.state is State.COMPLETE:
            self._unverified.append(self._check(transfer, chunk))

    def _check(self, transfer: ScatteredTransfer, chunk: Chunk) -> _Check:
        """What is to be compared of a file that is complete: nothing any more of a single chunk."""
        check = _Check(transfer, transfer.there)
        if chunk.total == 1:
            check.update(bytes(chunk.data))
            check.read = len(chunk.data)
        return check

    def _conclude(self, check: _Check) -> None:
        transfer = check.transfer
        if check.sha512.digest() == transfer.sha512:
            transfer.digest = check.digest.digest()
            self._verified[transfer] = None
        else:
            transfer.state = State.FAILED
            partition, reason = self._reading[transfer.home], Reason.DIGEST_MISMATCH
            # its last record is passed, maybe long ago
            self._drops.add(reason, partition, transfer.lasts[transfer.home], "of the whole file")
            self._outcomes.refuse(partition, transfer, reason)

    def _expire(self, transfer: ScatteredTransfer) -> None:
        idle = human_duration(self._gathering.clock - transfer.touched)
        chunks = f"{transfer.there.count} of {transfer.begin.chunks} chunks"
        transfer.state = State.FAILED
        self._outcomes.give_up(
            self._reading[transfer.home], transfer, f"nothing more of it came for {idle}: {chunks}"
        )

    def _waiting(self) -> list[ScatteredTransfer]:
        return [one for one in self._gathering if one.waits]

    def _of(self, partitions: Collection[int]) -> list[ScatteredTransfer]:
        return [one for one in self._gathering if not one.firsts.keys().isdisjoint(partitions)]

    def _topic_id(self) -> str:
        """That of all partitions."""
        return next((one.topic_id for one in self._reading), "")


def _key(transfer: ScatteredTransfer) -> PartKey:
    return PartKey(transfer.tid, transfer.home)


def _is_too_far(error: DiskError) -> bool:
    """Whether this file system has no files of the size that was claimed."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EFBIG
