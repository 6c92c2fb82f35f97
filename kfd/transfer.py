"""A transfer while its records come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from blake3 import blake3

from kfd.wire import Begin


class State(Enum):
    """Where a transfer stands that has not been closed yet."""

    RECEIVING = auto()
    COMPLETE = auto()
    FAILED = auto()
    ABORTED = auto()


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the records of a transfer lie that is spread over partitions."""

    version: bytes  # of which file it is which content
    upload: int  # how many transfers have brought this version before
    lasts: Mapping[int, int]  # partition → highest offset
    last_at: int  # timestamp of the latest record, ms since the epoch
    repeated: bool  # some records came more than once: they may be of several uploads


@dataclass(slots=True, eq=False)
class OpenTransfer:
    """A transfer from its first record until the consumer closes it. Sizes are bytes."""

    tid: bytes
    begin: Begin
    first_offset: int
    next_index: int = 0
    received: int = 0
    digest: bytes | None = None  # once complete
    state: State = State.RECEIVING
    restored: int = 0  # chunks that were read in another life, and are trusted to the disk
    torn: bool = False  # the topic has lost offsets since; the next record may be among them
    hashed: int = 0  # bytes that the hasher has seen
    saved: int = 0  # chunks that are durable
    rest_offset: int | None = None  # of the first record that isn't durable, if one came
    touched: float = 0.0  # when the last one came, by whatever clock its reader has
    hasher: blake3 = field(default_factory=blake3, repr=False)

    @property
    def spread(self) -> Spread | None:
        """None of one that lies in one partition, as kfd's do."""
        return None

    @property
    def remaining(self) -> int:
        """Bytes that are still to come."""
        return self.begin.size - self.received
