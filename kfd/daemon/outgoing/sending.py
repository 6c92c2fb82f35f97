"""One file on its way into Kafka: read in order, hashed, and compared before and after.

Killed at any point, the ledger's row still says ``sending`` with its partition, chunk size and
acknowledged prefix; the next start resumes or starts over from that (see ``resume.py``). A record
that was produced twice because of it is a duplicate to every receiver.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass

from blake3 import blake3

from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import Outgoing, Progress
from kfd.wire import (
    FLAG_ABORT,
    HEADER_NAME,
    Begin,
    End,
    Header,
    chunk_count,
    encode_header,
    record_key,
)

Record = tuple[bytes, list[tuple[str, str | bytes | None]] | None, bytes]
"""Key, headers and value."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file can't be sent on: how its transfer ends, or that it is to be resumed."""

    state: str = ""  # empty: only interrupted, the transfer goes on later
    reason: str = ""
    fix: str = ""
    look_again: bool = False  # the file changed or went: what settles there is new
    forget: bool = False  # a later scan may offer this version again
    withdrawn: bool = False  # somebody has cancelled it


INTERRUPTED = Failure()
CHANGED = Failure(
    "cancelled",
    "the file changed while it was being read; it is sent when it settles",
    look_again=True,
)
GONE = Failure(
    "failed",
    "the file is no longer there",
    "put it back, or kfdctl send it from where it is now",
    look_again=True,
)
SPOILT = Failure(
    "failed", "kfd's own copy of it is gone or was changed", "send it again", forget=True
)


class Sending:
    """A transfer while it is being sent, in kfd's own format (the other one: ``formats.py``).

    ``next_index`` and the file belong to the producer thread whose turn it is; ``acked`` and
    ``returned`` to the deliveries thread. ``failure`` is set by either, or by who withdraws it,
    once, and never unset.
    """

    __slots__ = (
        "_end",
        "_fd",
        "_hashed",
        "_hasher",
        "_key",
        "acked",
        "begin",
        "digest",
        "failure",
        "first_offset",
        "next_index",
        "partition",
        "produced",
        "resumed",
        "returned",
        "row",
    )

    def __init__(
        self, row: Outgoing, origin: str, instance: bytes, *, resumed: bool = False
    ) -> None:
        """``resumed``: records of it may be in Kafka from an earlier attempt."""
        assert row.chunk_size is not None
        assert row.partition is not None
        self.row = row
        self.partition = row.partition
        self._key = record_key(row.tid)
        self.begin = Begin(
            path=row.path,
            topic=row.topic,
            origin=origin,
            instance=instance,
            generation=row.generation,
            size=row.size,
            mtime_ns=row.mtime_ns,
            mode=row.mode & 0o777,
            chunk_size=row.chunk_size,
            chunks=chunk_count(row.size, row.chunk_size),
            meta=row.meta,
        )
        self.next_index = row.acked
        self.acked = row.acked
        self.first_offset = row.first_offset
        self.resumed = resumed
        self.produced = 0
        self.returned = 0
        self.failure: Failure | None = None
        self.digest: bytes | None = None  # of the file, once all of it was read
        self._fd = -1
        self._hasher = blake3()
        self._hashed = 0  # chunks
        # Taken once, by who produces the last record, or by who cancels before that.
        self._end = threading.Lock()

    @property
    def behind(self) -> bool:
        """Whether the digest lacks chunks that needn't be sent again."""
        return self._hashed < self.next_index and not self.read_to_end

    @property
    def read_to_end(self) -> bool:
        """Whether every chunk has been handed to Kafka's client."""
        return self.next_index == self.begin.chunks

    @property
    def complete(self) -> bool:
        """Whether every chunk has been acknowledged."""
        return self.acked == self.begin.chunks

    @property
    def settled(self) -> bool:
        """Whether every record that was produced has had its delivery report."""
        return self.returned == self.produced

    @property
    def has_partials(self) -> bool:
        """Whether receivers may hold a part of it."""
        return self.begin.chunks > 1 and (self.resumed or self.produced > 0)

    @property
    def repeats_first(self) -> bool:
        """Whether the first record goes twice."""
        return False

    def remaining(self) -> tuple[int, int]:
        """Records and bytes still to be read."""
        return (
            self.begin.chunks - self.next_index,
            max(0, self.begin.size - self.next_index * self.begin.chunk_size),
        )

    def read(self) -> Record | None:
        """The next record.

        None when the file can't be read on; ``failure`` then says why.
        """
        try:
            if self._fd < 0 and not self._open():
                return None
            return self._read_chunk()
        except OSError as error:
            self._fail_to_read(_os_failure(error))
            return None

    def abort_record(self) -> Record | None:
        """What has receivers drop their partials; None where there is nothing of the kind."""
        return self._record(Header(self.row.tid, self.next_index, FLAG_ABORT), b"")

    def catch_up(self, chunks: int) -> bool:
        """Read again some chunks of the acknowledged prefix: the digest is of the whole file.

        True when that is done; a large one takes several turns.
        """
        try:
            return (self._fd >= 0 or self._open()) and self._hash_prefix(chunks)
        except OSError as error:
            self._fail_to_read(_os_failure(error))
            return False

    def fail(self, failure: Failure) -> None:
        """Note why sending can't go on; the first reason stays."""
        if self.failure is None:
            self.failure = failure

    def _fail_to_read(self, failure: Failure) -> None:
        """A copy in the spool has no watcher and no next version."""
        own = self.row.spool is not None or not self.row.source
        self.fail(SPOILT if own and failure in (CHANGED, GONE) else failure)

    @property
    def is_withdrawn(self) -> bool:
        """Whether it ends because it was cancelled: not for another reason, which came before."""
        return self.failure is not None and self.failure.withdrawn

    def withdraw(self, reason: str) -> bool:
        """Have it cancelled: its last record will never be produced. False if that has been handed
        to Kafka's client, or was withdrawn before. Any thread."""
        if self.read_to_end or not self._end.acquire(blocking=False):
            return False
        self.fail(Failure("cancelled", reason, withdrawn=True))
        return True

    def close(self) -> None:
        """Close the file. In the thread whose turn it is, or after the last turn."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def ending(self, state: str, failure: Failure = INTERRUPTED) -> Ending:
        """What the ledger is told about the end of this transfer."""
        return Ending(
            *(self.row, state, self.acked, self.first_offset),
            *(failure.reason, failure.fix, failure.look_again),
            forget=failure.forget or failure.look_again,
            digest=self.digest,
        )

    def progress(self, now: float) -> Progress:
        """What the ledger is told while the transfer goes on. ``now``: epoch seconds."""
        return Progress(self.row.id, self.acked, self.first_offset, now, self.digest)

    def _open(self) -> bool:
        # O_NONBLOCK: a FIFO that was put in the file's place must not hang the thread
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(self.row.source, flags)
        if not self._unchanged():
            self._fail_to_read(CHANGED)
            return False
        return True

    def _hash_prefix(self, chunks: int) -> bool:
        size = self.begin.chunk_size
        for index in range(self._hashed, min(self._hashed + chunks, self.next_index)):
            chunk = self._read_exactly(size, index * size)
            if chunk is None:
                return False
            self._hasher.update(chunk)
            self._hashed = index + 1
        return self._hashed == self.next_index

    def _read_chunk(self) -> Record | None:
        index, begin = self.next_index, self.begin
        chunk = self._read_exactly(begin.chunk_length(index), index * begin.chunk_size)
        if chunk is None:
            return None
        self._hasher.update(chunk)
        last = index == begin.chunks - 1
        if last and not self._is_whole():
            self._fail_to_read(CHANGED)
            return None
        if last and not self._end.acquire(blocking=False):
            return None  # it is being withdrawn
        if last:
            self.digest = self._hasher.digest()
        self.next_index = self._hashed = index + 1
        return self._encoded(index, chunk)

    def _is_whole(self) -> bool:
        """Whether all that was read is of one version. After the last read."""
        return self._unchanged()

    def _encoded(self, index: int, chunk: bytes) -> Record:
        begin = self.begin
        header = Header(
            self.row.tid,
            index,
            0,
            begin if index == 0 else None,
            None if self.digest is None else End(begin.size, begin.chunks, self.digest),
        )
        return self._record(header, chunk)

    def _record(self, header: Header, value: bytes) -> Record:
        return self._key, [(HEADER_NAME, encode_header(header))], value

    def _read_exactly(self, size: int, offset: int) -> bytes | None:
        """``size`` bytes from ``offset`` on; None, and a failure, if the file is shorter now.

        One object of bytes: that is all that librdkafka's client takes without a copy of its own.
        """
        chunk = os.pread(self._fd, size, offset)
        while len(chunk) < size:
            more = os.pread(self._fd, size - len(chunk), offset + len(chunk))
            if not more:
                self._fail_to_read(CHANGED)
                return None
            chunk += more
        return chunk

    def _unchanged(self) -> bool:
        row, now = self.row, os.fstat(self._fd)
        same_file = row.inode == 0 or (row.device, row.inode) == (now.st_dev, inode_of(now))
        return same_file and (row.size, row.mtime_ns) == (now.st_size, now.st_mtime_ns)


def _os_failure(error: OSError) -> Failure:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return GONE
    if error.errno in (errno.ELOOP, errno.ENXIO):  # a symlink or a socket has its place
        return CHANGED
    if error.errno in (errno.EACCES, errno.EPERM):
        return Failure(
            "failed",
            f"kfd may not read it: {error.strerror}",
            "give kfd's user read permission on it; the hourly scan tries again",
            forget=True,
        )
    return Failure(reason=f"it can't be read now: {error.strerror}")
