"""One transfer out of a topic's records: its bytes, in order or not, until all are verified.

kfd's records are assembled as a receiver does. The chunks of openmsistream's lie on all partitions
in any order, and each says where it belongs.
"""

from __future__ import annotations

import hashlib
from typing import IO, Final, Protocol

from kfd.assembly import Assembler
from kfd.errors import KfdError, NoSuchTransferError, TransferFailedError
from kfd.inspection.record import Look, Record
from kfd.openmsistream import Chunk
from kfd.paths import escape
from kfd.scattered import Bitmap
from kfd.transfer import OpenTransfer
from kfd.verdict import Aborted, Append, Drop, Failed
from kfd.wire import Header, Reason

_LARGEST: Final = 2**63 - 1
_PIECE: Final = 1 << 20  # bytes

_REASONS: Final = {
    Reason.DIGEST_MISMATCH: "all its chunks are there, and are not the file that was sent",
    Reason.MALFORMED: "a chunk isn't as long as its sender announced",
    Reason.MALFORMED_END: "its last record contradicts the first",
}


class Source(Protocol):
    """A transfer that is being put together."""

    tid: bytes
    size: int
    digest: str

    @property
    def path(self) -> bytes: ...

    @property
    def partition(self) -> int | None:
        """The only one that its records lie in, if that is sure."""
        ...

    @property
    def trouble(self) -> str:
        """Why all of it has to come again; empty if it hasn't."""
        ...

    def take(self, record: Record, look: Look, /) -> bool:
        """Whether it is complete with this record. Raises :class:`TransferFailedError`."""
        ...

    def unfinished(self) -> TransferFailedError:
        """Why it isn't complete."""
        ...


class Extraction:
    """Looks for the transfer whose id ends with ``tid``, and writes it into ``file``."""

    def __init__(self, tid: str, file: IO[bytes]) -> None:
        self._wanted = tid.lower()
        self._file = file
        self._headless = False
        self._source: Source | None = None

    @property
    def partition(self) -> int | None:
        """The only one that the rest lies in, once that is sure."""
        return None if self._source is None else self._source.partition

    def take(self, record: Record, look: Look) -> Source | None:
        """The transfer, if it is complete with this record, and verified.

        Raises :class:`TransferFailedError`, and :class:`OSError` for the file.
        """
        if look.tid is None or not look.tid.hex().endswith(self._wanted):
            return None
        source = self._source = self._source or self._found(record, look)
        if source is None:
            return None
        if look.tid != source.tid:
            raise KfdError(
                f"several transfers end with {self._wanted}", fix="give all 32 digits of the id"
            )
        return source if source.take(record, look) else None

    @property
    def trouble(self) -> str:
        """Why it isn't enough that the rest comes; empty if it is."""
        return "" if self._source is None else self._source.trouble

    def unfinished(self) -> KfdError:
        """Why there is no file, when all records were read."""
        if self._source is not None:
            return self._source.unfinished()
        if self._headless:
            return TransferFailedError(
                f"the first record of {self._wanted} is not there; others of it are",
                fix="read --from earliest; what the topic has forgotten, only its sender still has",
            )
        return NoSuchTransferError(
            f"no record of a transfer {self._wanted} is there",
            fix="kfdctl inspect topic TOPIC shows which are; --from earliest reads all",
        )

    def _found(self, record: Record, look: Look) -> Source | None:
        if look.chunk is not None:
            return _Scattered(look.tid or b"", look.chunk, self._file)
        assert look.header is not None
        if look.header.begin is None:
            self._headless = True
            return None
        return _InOrder(record, look.header, self._file)


def _not_whole(path: bytes, missing: str) -> TransferFailedError:
    what = f"{escape(path)} is not whole on the topic: {missing}"
    return TransferFailedError(what, fix="--follow waits for the rest, if it is on its way")


def _can_not(path: bytes, why: str, fix: str) -> TransferFailedError:
    return TransferFailedError(f"{escape(path)} can't be extracted: {why}", fix=fix)


class _InOrder:
    """kfd's own: all records in one partition, each index once but for repeats."""

    trouble = ""

    def __init__(self, record: Record, header: Header, file: IO[bytes]) -> None:
        assert header.begin is not None
        self.tid = header.tid
        self.partition: int | None = record.partition
        self.begin = header.begin
        self.size = self.begin.size
        self.digest = ""
        self._file = file
        # of the topic that it was sent to: it may have been copied here
        self._assembler = Assembler(self.begin.topic, _LARGEST)

    @property
    def path(self) -> bytes:
        return self.begin.path

    def take(self, record: Record, look: Look) -> bool:
        if record.partition != self.partition or look.header is None:
            return False
        verdict = self._assembler.accept(record.offset, look.header, record.value, ())
        if isinstance(verdict, Aborted):
            raise self._failed(f"its sender gave it up: {self._extent(verdict.transfer)}")
        if isinstance(verdict, Failed):
            raise self._failed(_REASONS.get(verdict.reason, verdict.reason.value))
        if isinstance(verdict, Drop) and verdict.reason in _REASONS:
            raise self._failed(_REASONS[verdict.reason])
        return isinstance(verdict, Append) and self._append(verdict, record.value or b"")

    def unfinished(self) -> TransferFailedError:
        transfer = self._assembler.find(self.tid)
        return _not_whole(self.path, "" if transfer is None else self._extent(transfer))

    def _append(self, verdict: Append, value: bytes) -> bool:
        self._file.write(value)
        if verdict.complete:
            self.digest = (verdict.transfer.digest or b"").hex()
        return verdict.complete

    def _extent(self, transfer: OpenTransfer) -> str:
        chunks = self.begin.chunks
        return f"{transfer.next_index} of {chunks} chunks, {transfer.received} of {self.size} bytes"

    def _failed(self, why: str) -> TransferFailedError:
        return _can_not(self.path, why, "look for another transfer of the same file: --path")


class _Scattered:
    """openmsistream's: chunks from 1 on, in any order, repeated or not.

    Of a chunk that comes again the first one counts, unless all together aren't the file that was
    sent: then that is put together of what comes after.
    """

    partition: int | None = None

    def __init__(self, tid: bytes, chunk: Chunk, file: IO[bytes]) -> None:
        self.tid = tid
        self.path = chunk.path
        self.size = 0
        self.digest = chunk.file_sha512.hex()
        self._total = chunk.total
        self._file = file
        self._there = Bitmap()
        self._spoilt = 0
        self.trouble = ""

    def take(self, _: Record, look: Look) -> bool:
        chunk = look.chunk
        if chunk is None or chunk.index - 1 in self._there:
            return False
        if not chunk.intact:
            self._spoilt += 1
            return False
        self._file.seek(chunk.offset)
        self._file.write(chunk.data)
        self._there.add(chunk.index - 1)
        self.size += len(chunk.data)
        return self._there.count == self._total and self._verified()

    def unfinished(self) -> TransferFailedError:
        if self.trouble:
            return _can_not(self.path, self.trouble, "send it again")
        return _not_whole(self.path, self._missing())

    def _missing(self) -> str:
        first = next(index for index in range(self._total) if index not in self._there)
        spoilt = f"; {self._spoilt} are not what their digests say" if self._spoilt else ""
        came = f"{self._there.count} of {self._total} chunks came"
        return f"{came}, the first that didn't is {first + 1}{spoilt}"

    def _verified(self) -> bool:
        if self._sha512() == self.digest:
            return True
        self.trouble = _REASONS[Reason.DIGEST_MISMATCH]
        self._there, self.size = Bitmap(), 0
        self._file.truncate(0)
        return False

    def _sha512(self) -> str:
        self._file.seek(0)
        hasher = hashlib.sha512()
        while piece := self._file.read(_PIECE):
            hasher.update(piece)
        return hasher.hexdigest()
