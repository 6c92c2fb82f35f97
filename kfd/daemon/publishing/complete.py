"""A partial that has every byte of its file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger.publications import NO_META, Received
from kfd.daemon.publishing.destination import HeldKey, PartKey
from kfd.transfer import OpenTransfer


@dataclass(frozen=True, slots=True)
class Complete:
    """A transfer of which nothing more is to come, and where it came from."""

    transfer: OpenTransfer
    topic_id: str
    partition: int

    @property
    def key(self) -> PartKey:
        """Of the partial."""
        return PartKey(self.transfer.tid, self.partition)

    def received(
        self,
        route: str,
        name: bytes = b"",
        status: os.stat_result | None = None,
        constants: Mapping[str, str] = NO_META,
    ) -> Received:
        """The row of the transfer; ``status`` is that of its file, if it was made, ``constants``
        are the route's own metadata."""
        transfer = self.transfer
        return Received(
            route=route,
            topic_id=self.topic_id,
            partition=self.partition,
            first_offset=transfer.first_offset,
            tid=transfer.tid,
            begin=transfer.begin,
            digest=transfer.digest,
            name=name,
            mtime_ns=status.st_mtime_ns if status else transfer.begin.mtime_ns,
            device=status.st_dev if status else 0,
            inode=inode_of(status) if status else 0,
            constants=constants,
            spread=transfer.spread,
        )


@dataclass(frozen=True, slots=True)
class Held(Complete):
    """One that is in quarantine."""

    @property
    def key(self) -> PartKey:
        return HeldKey(self.transfer.tid, self.partition)
