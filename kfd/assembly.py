"""Assembly of the files in one partition: which record is the next of which transfer.

Append-only: per transfer one integer, the next index, and a running BLAKE3. Nothing is allocated
from what a record claims, and a record that is dropped changes nothing at all. The bytes
themselves are the caller's to write.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Mapping
from typing import Final

from blake3 import blake3

from kfd.transfer import OpenTransfer, State
from kfd.verdict import Aborted, Append, Drop, Failed, Skip, Verdict
from kfd.wire import Begin, Header, Reason

MAX_OPEN: Final = 1024  # transfers of several records that may be open in a partition

_SKIP: Final = Skip()


class Assembler:
    """The open transfers of one partition of one topic. Pure state, used by one thread.

    A transfer that has ended (complete, failed, aborted) stays, and holds the safe offset back,
    until :meth:`close`: what became of it is on disk by then.
    """

    def __init__(self, topic: str, max_size: int, max_open: int = MAX_OPEN) -> None:
        self.topic = topic
        self.max_size = max_size
        self.max_open = max_open
        self._open: dict[bytes, OpenTransfer] = {}
        self._ended = 0  # how many of the open ones are not being received any more
        # First offsets, ascending, of the open transfers and of the voided ones.
        self._first_offsets: OrderedDict[bytes, int] = OrderedDict()
        self._ended_below = 0
        self._not_ended: Container[int] = ()

    def trust(self, position: int, opened: Container[int]) -> None:
        """Whoever read this before has ended all that began before ``position``, but for the
        transfers that began at the offsets in ``opened``."""
        self._ended_below = position
        self._not_ended = opened

    def accept(
        self, offset: int, header: Header, value: bytes | None, known: Container[bytes]
    ) -> Verdict:
        """What to do with the record at ``offset``.

        ``known`` holds the tids that this host has closed; it is asked only about transfers that
        are not open here.
        """
        if value is None or (header.aborts and value):
            return Drop(Reason.MALFORMED)
        transfer = self._open.get(header.tid)
        if transfer is None:
            return self._accept_unknown(offset, header, value, known)
        return self._accept_open(transfer, header, value)

    def __contains__(self, tid: bytes) -> bool:
        """Whether a transfer is open here, so that ``known`` need not be looked up for it."""
        return tid in self._open

    def close(self, tid: bytes) -> None:
        """Forget a transfer for good: what became of it is durable. Unknown ones are fine."""
        self._forget(tid)
        self._first_offsets.pop(tid, None)

    def void(self, tid: bytes) -> int:
        """Forget what was received of an open transfer; returns the offset to seek back to.

        Its first offset holds the safe offset until its first record has been read again, or
        :meth:`close`.
        """
        self._forget(tid)
        return self._first_offsets[tid]

    def would_take(self, begin: Begin) -> bool:
        """Whether a transfer of several records may be restored now."""
        return self._refusal(begin) is None

    def restore(self, tid: bytes, begin: Begin, first_offset: int, chunks: int) -> OpenTransfer:
        """Take up a transfer of which ``chunks`` are on disk; its hasher has seen none of them."""
        transfer = self._hold(tid, begin, first_offset)
        transfer.next_index = transfer.restored = chunks
        transfer.received = chunks * begin.chunk_size
        return transfer

    def take_back(self, transfer: OpenTransfer, length: int) -> None:
        """The last :class:`Append` of a transfer, of ``length`` bytes, could not be done.

        Its hasher has to see all again (``hashed`` is 0); a transfer that has nothing is closed.
        """
        if transfer.state is not State.RECEIVING:
            transfer.state, transfer.digest = State.RECEIVING, None
            self._ended -= 1
        transfer.next_index -= 1
        transfer.received -= length
        transfer.hashed, transfer.hasher = 0, blake3()
        if transfer.next_index == 0:
            self.close(transfer.tid)

    def end(self, transfer: OpenTransfer) -> None:
        """Receive no more of a transfer; it stays until :meth:`close`."""
        if transfer.state is State.RECEIVING:
            self._end(transfer, State.FAILED)

    def behead(self, low: int) -> list[bytes]:
        """The topic has lost all before ``low``, and maybe more than was read.

        What is open goes on if its next record comes; the tids of those that would have to be
        read again from an offset that is gone are given back, and closed.
        """
        for transfer in self._open.values():
            transfer.torn = True
        gone = [
            tid for tid, first in self._first_offsets.items()
            if first < low and tid not in self._open
        ]  # fmt: skip
        for tid in gone:
            self.close(tid)
        return gone

    @property
    def first_offsets(self) -> Mapping[bytes, int]:
        """By tid, ascending: of the open transfers, and of those to be read again from there."""
        return self._first_offsets

    def find(self, tid: bytes) -> OpenTransfer | None:
        """The open transfer with this tid."""
        return self._open.get(tid)

    def safe_offset(self, next_offset: int) -> int:
        """The offset to commit when ``next_offset`` is to be read next: whoever starts there reads
        all that is still wanted."""
        oldest = next(iter(self._first_offsets.values()), next_offset)
        return min(oldest, next_offset)

    def open_transfers(self) -> list[OpenTransfer]:
        """Those that have not been closed or voided, by first offset."""
        return [self._open[tid] for tid in self._first_offsets if tid in self._open]

    def _accept_unknown(
        self, offset: int, header: Header, value: bytes, known: Container[bytes]
    ) -> Verdict:
        if offset < self._ended_below and offset not in self._not_ended:
            return _SKIP
        if header.tid in known:
            return Drop(Reason.DUPLICATE)
        voided_at = self._first_offsets.get(header.tid, offset)
        if offset != voided_at:
            return _SKIP
        if header.begin is None:
            return Drop(Reason.ORPHAN)
        self._first_offsets.pop(header.tid, None)
        refusal = self._refusal(header.begin) or _misfit(header.begin, header, value)
        if refusal is not None:
            return Drop(refusal)
        return self._append(self._hold(header.tid, header.begin, offset), header, value)

    def _accept_open(self, transfer: OpenTransfer, header: Header, value: bytes) -> Verdict:
        if header.begin is not None and header.begin != transfer.begin:
            return Drop(Reason.CONFLICTING_BEGIN)
        if transfer.state is not State.RECEIVING:
            return Drop(Reason.DUPLICATE)
        if header.aborts:
            self._end(transfer, State.ABORTED)
            return Aborted(transfer)
        if header.index != transfer.next_index:
            return self._accept_other(transfer, header.index)
        refusal = _misfit(transfer.begin, header, value)
        return Drop(refusal) if refusal else self._append(transfer, header, value)

    def _accept_other(self, transfer: OpenTransfer, index: int) -> Verdict:
        """A record that is not the next one."""
        if index < transfer.restored:
            return _SKIP
        if index < transfer.next_index:
            return Drop(Reason.DUPLICATE)
        if transfer.torn:
            self._end(transfer, State.FAILED)
            return Failed(transfer, Reason.HEAD_LOST)
        return Drop(Reason.GAP)

    def _refusal(self, begin: Begin) -> Reason | None:
        if begin.topic != self.topic:
            return Reason.WRONG_TOPIC
        if begin.size > self.max_size:
            return Reason.TOO_BIG
        # A voided one counts: its place is kept. A file of one record needs none.
        if begin.chunks > 1 and len(self._first_offsets) - self._ended >= self.max_open:
            return Reason.TOO_MANY_OPEN
        return None

    def _hold(self, tid: bytes, begin: Begin, offset: int) -> OpenTransfer:
        transfer = self._open[tid] = OpenTransfer(tid, begin, offset)
        last = next(reversed(self._first_offsets.values()), offset)
        self._first_offsets[tid] = offset
        if offset < last:  # rare: after a seek back
            self._first_offsets = OrderedDict(
                sorted(self._first_offsets.items(), key=lambda item: item[1])
            )
        return transfer

    def _append(self, transfer: OpenTransfer, header: Header, value: bytes) -> Verdict:
        transfer.hasher.update(value)
        transfer.hashed += len(value)
        transfer.next_index += 1
        transfer.received += len(value)
        if header.end is not None:
            digest = transfer.hasher.digest()
            if digest != header.end.digest:
                self._end(transfer, State.FAILED)
                return Failed(transfer, Reason.DIGEST_MISMATCH)
            transfer.digest = digest
            self._end(transfer, State.COMPLETE)
        return Append(transfer, header.index == 0, header.end is not None)

    def _end(self, transfer: OpenTransfer, state: State) -> None:
        transfer.state = state
        self._ended += 1

    def _forget(self, tid: bytes) -> None:
        transfer = self._open.pop(tid, None)
        if transfer is not None and transfer.state is not State.RECEIVING:
            self._ended -= 1


def _misfit(begin: Begin, header: Header, value: bytes) -> Reason | None:
    """Why the record cannot be what ``begin`` announced at its index, if so."""
    if len(value) != begin.chunk_length(header.index):
        return Reason.MALFORMED
    last = header.index == begin.chunks - 1
    if (header.end is not None) != last:
        return Reason.MALFORMED_END
    if header.end is not None and header.end.size != begin.size:
        return Reason.MALFORMED_END
    return None
