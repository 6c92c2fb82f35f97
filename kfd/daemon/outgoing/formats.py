"""In which format a transfer is sent: kfd's own, or openmsistream's.

openmsistream's records carry the SHA-512 of the whole file, so a file of several chunks is read
twice: hashed, then sent. What is sent is compared with what was hashed before the last record goes,
so that nobody ever has all chunks of a file that was not one version.
"""

from __future__ import annotations

import hashlib

from blake3 import blake3

from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.outgoing.sending import CHANGED, Failure, Record, Sending
from kfd.openmsistream import Encoder, check_sendable
from kfd.paths import BadPath

OPENMSISTREAM = "openmsistream"
_FIX = "give it another name, exclude it, or send it by a route with format: kfd"


def sending_of(row: Outgoing, origin: str, instance: bytes, *, resumed: bool = False) -> Sending:
    """A transfer that is to be sent, in the format that it was queued for."""
    kind = PeerSending if row.format == OPENMSISTREAM else Sending
    return kind(row, origin, instance, resumed=resumed)


class PeerSending(Sending):
    """A transfer in openmsistream's format. Receivers can't be told to drop anything in it."""

    __slots__ = ("_ahead", "_encoder", "_sha512", "_whole")

    def __init__(
        self, row: Outgoing, origin: str, instance: bytes, *, resumed: bool = False
    ) -> None:
        super().__init__(row, origin, instance, resumed=resumed)
        self._ahead = 0  # chunks that were hashed before anything is sent
        self._sha512 = hashlib.sha512()
        self._whole = blake3()
        self._encoder: Encoder | None = None

    @property
    def behind(self) -> bool:
        """Whether the file must be hashed before it can be sent."""
        return self._encoder is None and self.begin.chunks > 1 and not self.read_to_end

    @property
    def has_partials(self) -> bool:
        return False

    @property
    def repeats_first(self) -> bool:
        """openmsistream 1.8.8, when it holds a part of an older version, drops that and the record
        which told it of the newer one. Without that record it would never have all of it."""
        return self.row.again or self.resumed

    def abort_record(self) -> None:
        return None

    def _open(self) -> bool:
        try:
            check_sendable(self.row.path)
        except BadPath as error:
            reason = f"openmsistream's format can't have this name: {error}"
            self.fail(Failure("failed", reason, _FIX))
            return False
        return super()._open()

    def _hash_prefix(self, chunks: int) -> bool:
        """Hash the whole file, the acknowledged prefix included."""
        begin = self.begin
        for index in range(self._ahead, min(self._ahead + chunks, begin.chunks)):
            chunk = self._read_exactly(begin.chunk_length(index), index * begin.chunk_size)
            if chunk is None:
                return False
            if index == self.next_index:
                self._hasher = self._whole.copy()
            self._sha512.update(chunk)
            self._whole.update(chunk)
            self._ahead = index + 1
        return self._ahead == begin.chunks and self._begin()

    def _begin(self) -> bool:
        """All of it is hashed: it can be sent, if it is what was sent of it before."""
        digest = self._whole.digest()
        if not self._unchanged() or (self.next_index > 0 and digest != self.row.digest):
            self._fail_to_read(CHANGED)
            return False
        self.digest = digest
        self._encoder = self._new_encoder(self._sha512.digest())
        return True

    def _is_whole(self) -> bool:
        return super()._is_whole() and self.digest in (None, self._hasher.digest())

    def _encoded(self, index: int, chunk: bytes) -> Record:
        sha512 = hashlib.sha512(chunk).digest()
        encoder = self._encoder or self._new_encoder(sha512)  # one chunk is the whole file
        number, offset = index + 1, index * self.begin.chunk_size
        return encoder.key(number), None, encoder.value(number, offset, chunk, sha512)

    def _new_encoder(self, sha512: bytes) -> Encoder:
        return Encoder(self.row.path, sha512, self.begin.chunks, self.row.mtime_ns / 10**9)
