"""Room on the file systems of the downloads: which file may be begun, which has to wait.

What was begun is sure of its place: a newcomer fits only if the bytes that all open transfers on
the file system have still to come, and ``min_free``, would be left.
"""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from kfd.daemon.publishing.destination import Destination
from kfd.daemon.publishing.partials import DiskError
from kfd.units import Room

_UNKNOWN = 1 << 62  # for file systems that don't say how large they are


class _Claim(NamedTuple):
    size: int  # bytes that are still to come
    oldest: bytes | None  # tid of the oldest open transfer


@dataclass(slots=True)
class Claims:
    """What the open transfers of each thread have still to come, by file system. Any thread.

    The lock guards ``_claims``.
    """

    _claims: dict[int, dict[object, _Claim]] = field(default_factory=dict)  # device → thread → ...
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, device: int, holder: object, size: int, oldest: bytes | None) -> int:
        """Replace one thread's claim; the sum of all on the file system."""
        with self._lock:
            claims = self._claims.setdefault(device, {})
            claims[holder] = _Claim(size, oldest)
            return sum(claim.size for claim in claims.values())

    def add(self, device: int, holder: object, size: int) -> None:
        """One thread claims more."""
        with self._lock:
            claims = self._claims.setdefault(device, {})
            claim = claims.get(holder, _Claim(0, None))
            claims[holder] = claim._replace(size=claim.size + size)

    def oldest(self, device: int) -> bytes | None:
        """The tid of the oldest transfer that is open on a file system."""
        with self._lock:
            claims = self._claims.get(device, {}).values()
            return min((claim.oldest for claim in claims if claim.oldest), default=None)


class Space:
    """What is free on a route's file system, as one consumer thread sees it."""

    def __init__(self, destination: Destination, min_free: Room, claims: Claims) -> None:
        """``min_free`` is kept free of what is received; ``claims`` is shared by all threads."""
        self._destination = destination
        self._min_free = min_free
        self._claims = claims
        self._most = 0  # bytes of the largest file that could ever fit
        self._free = 0  # bytes for what is written at once
        self._left = 0  # bytes for what comes little by little

    def look(self, expected: int, oldest: bytes | None) -> None:
        """Look at the disk, once for all newcomers of a batch.

        ``expected`` bytes of this thread's open transfers are still to come, and ``oldest`` is the
        oldest of them. Raises :class:`DiskError`.
        """
        try:
            free, total = self._destination.space()
        except OSError as error:
            raise DiskError(error, self._destination.directory) from error
        claimed = self._claims.put(self._destination.device, self, expected, oldest)
        # what is written from now on is taken from the free and the claimed bytes alike
        floor = self._min_free.on(total)
        self._most = total - floor if total else _UNKNOWN
        self._free = free - floor if total else _UNKNOWN
        self._left = self._free - claimed

    def fits(self, size: int, *, at_once: bool) -> bool:
        """Whether a file of so many bytes may be begun, as of the last look.

        One that is written ``at_once`` need not heed what others have claimed: what is here counts
        more than what is announced.
        """
        return size <= (self._free if at_once else self._left)

    def is_too_small(self, size: int) -> bool:
        """Whether a file of so many bytes could not be here even alone."""
        return size > self._most

    def take(self, size: int) -> None:
        """One was begun. Other threads see it at their next look."""
        self._free -= size
        self._left -= size
        self._claims.add(self._destination.device, self, size)

    def is_oldest(self, tid: bytes) -> bool:
        """Whether no older transfer is open on the file system, as far as was seen."""
        oldest = self._claims.oldest(self._destination.device)
        return oldest is None or tid <= oldest

    def full(self) -> DiskError:
        """The error where so many files wait for space that a partition has to."""
        error = DiskError(
            OSError(errno.ENOSPC, "less is left than min_free"), self._destination.directory
        )
        error.no_space = False  # nothing that could be given up would help
        return error
