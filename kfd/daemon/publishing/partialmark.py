"""The mark on a durable partial: the xattr ``user.kfd.partial``.

It says how many chunks of which transfer are surely on disk, so that they need not be read again
after a restart, whatever has become of the ledger. It is set only after they were synced: killed in
between, the mark before it holds, and what the file has besides is cut off. A file with
much ``meta`` may have a longer mark than its file system takes; then its partial is not durable.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.mark import ABSENT, xattr_of
from kfd.wire import HEADER_NAME, BadRecord, Begin, Header, decode_headers, encode_header

XATTR: Final = "user.kfd.partial"
_HEAD: Final = struct.Struct(">BIQQB")  # version, partition, first offset, chunks, topic id's bytes
_VERSION: Final = 1
# none, too long, or of a file system that has none; what else can fail concerns the disk
_UNMARKABLE: Final = (*ABSENT, errno.E2BIG, errno.ERANGE, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class PartialMark:
    """The first ``chunks`` chunks of this transfer are durable."""

    topic_id: str
    partition: int
    tid: bytes
    begin: Begin
    first_offset: int
    chunks: int

    @property
    def size(self) -> int:
        """Bytes that are durable."""
        return self.chunks * self.begin.chunk_size

    def encode(self) -> bytes:
        topic_id = self.topic_id.encode()
        head = _HEAD.pack(_VERSION, self.partition, self.first_offset, self.chunks, len(topic_id))
        return head + topic_id + encode_header(Header(self.tid, 0, begin=self.begin))


def decode(value: bytes, key: PartKey) -> PartialMark | None:
    """The mark of the partial with this key, None unless every bit of it is valid."""
    if len(value) < _HEAD.size or value[0] != _VERSION:
        return None
    _, partition, first_offset, chunks, length = _HEAD.unpack_from(value)
    topic_id, header = value[_HEAD.size :][:length], value[_HEAD.size :][length:]
    try:
        decoded = decode_headers([(HEADER_NAME, header)])
        mark = PartialMark(
            topic_id.decode("ascii"), partition, decoded.tid, _begin(decoded), first_offset, chunks
        )
    except (BadRecord, ValueError):
        return None
    whole = 0 < chunks < mark.begin.chunks and first_offset < 2**63
    return mark if whole and (mark.tid, partition) == key else None


def _begin(header: Header) -> Begin:
    if header.begin is None:
        raise ValueError("no begin")
    return header.begin


def read(fd: int, key: PartKey) -> PartialMark | None:
    """The mark of an open partial; None if it has no valid one, or is shorter than it says."""
    value = xattr_of(fd, XATTR)
    mark = decode(value, key) if value is not None else None
    return mark if mark is not None and os.fstat(fd).st_size >= mark.size else None


def write(fd: int, mark: PartialMark) -> bool:
    """Mark an open partial that was synced; false where that can't be done."""
    try:
        os.setxattr(fd, XATTR, mark.encode())
    except OSError as error:
        if error.errno in _UNMARKABLE:
            return False
        raise
    return True


def remove(fd: int) -> None:
    """Take the mark off a file that is about to get its final name."""
    try:
        os.removexattr(fd, XATTR)
    except OSError as error:
        if error.errno not in ABSENT:
            raise
