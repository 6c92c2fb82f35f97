"""Which records of a topic are wanted."""

from __future__ import annotations

import fnmatch
import os
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from kfd.inspection.record import Kind, Look
from kfd.scattered import ORIGIN
from kfd.wire import Header

_REMEMBERED: Final = 100_000  # transfers that have begun as wanted, and not ended


class Choice:
    """By kind, transfer, path and origin; of each, any of those given, or all if none is.

    Only the first record of a transfer has its path and origin: the others are chosen if that one
    was. ``tids`` are ends of ids in hexadecimal, ``paths`` patterns of shells, in which a ``*``
    goes over ``/`` too.
    """

    def __init__(
        self,
        kinds: Collection[Kind] = (),
        tids: Collection[str] = (),
        paths: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self._kinds = frozenset(kinds)
        self._tids = tuple(tid.lower() for tid in tids)
        self._paths = tuple(paths)
        self._origins = frozenset(origins)
        self._begun: OrderedDict[bytes, None] = OrderedDict()
        self._all = not (self._kinds or self._tids or self._paths or self._origins)

    def takes(self, look: Look) -> bool:
        """Whether it is wanted. To be asked of each record, in their order."""
        if self._all:
            return True
        if self._kinds and look.kind not in self._kinds:
            return False
        if self._tids and not self._has_tid(look):
            return False
        return self._has_name(look) if self._paths or self._origins else True

    def _has_tid(self, look: Look) -> bool:
        if look.receipts is not None:
            return any(one.tid.hex().endswith(self._tids) for one in look.receipts.receipts)
        return look.tid is not None and look.tid.hex().endswith(self._tids)

    def _has_name(self, look: Look) -> bool:
        if look.chunk is not None:
            return self._is_of(ORIGIN) and self._has_path(look.chunk.path)
        return look.header is not None and self._goes_on(look.header)

    def _goes_on(self, header: Header) -> bool:
        """A record of a transfer whose first one was wanted, or is."""
        begin = header.begin
        if begin is not None:
            if not self._is_of(begin.origin) or not self._has_path(begin.path):
                return False
            self._remember(header.tid)
        wanted = header.tid in self._begun
        if header.end is not None or header.aborts:
            self._begun.pop(header.tid, None)
        return wanted

    def _remember(self, tid: bytes) -> None:
        self._begun[tid] = None
        if len(self._begun) > _REMEMBERED:
            self._begun.popitem(last=False)

    def _is_of(self, origin: str) -> bool:
        return not self._origins or origin in self._origins

    def _has_path(self, path: bytes) -> bool:
        if not self._paths:
            return True
        text = os.fsdecode(path)
        return any(fnmatch.fnmatchcase(text, pattern) for pattern in self._paths)
