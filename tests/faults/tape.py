"""A tape of records for one topic, good and bad, and what a receiver must make of each.

The expectation is this module's own: it follows docs/wire-format.md and shares no code with kfd.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.oracle import digest
from tests.integration.records import Crafted, Headers, Sender
from tests.integration.test_hostile_records import Bad, foreign_records, hostile_records

CHUNK = 512
STREAMS = 200  # that are under way at the same time
BATCH = 10_000  # records, after which the producer is waited for

Parts = Sequence[tuple[list[Any], bytes]]
"""The records of a file: the array of each header, and the value."""


@dataclass(frozen=True)
class Entry:
    """One record: of a file (``array``), or foreign."""

    value: bytes | None
    array: list[Any] | None = None
    headers: Headers = None
    reason: str = ""  # why a foreign one isn't used


class Expected:
    """What becomes of records that are read in order: published contents, dropped by reason."""

    def __init__(self) -> None:
        self.published: dict[bytes, str] = {}
        self.bad: Counter[str] = Counter()
        self._next: dict[tuple[int, bytes], int] = {}
        self._spoilt: set[bytes] = set()
        self._over: set[tuple[int, bytes]] = set()

    def read(self, partition: int, crafted: Crafted | None, entry: Entry) -> None:
        reason = entry.reason
        if crafted is not None:
            reason = self._chunk((partition, crafted.tid), crafted, entry)
        if reason:
            self.bad[reason] += 1

    def _chunk(self, key: tuple[int, bytes], crafted: Crafted, entry: Entry) -> str:
        assert entry.array is not None
        assert entry.value is not None
        index, begin = entry.array[2], entry.array[4]
        true = crafted.content[index * CHUNK : (index + 1) * CHUNK]
        if key in self._over:
            return "duplicate"
        if key not in self._next and begin is None:
            return "orphan"
        wanted = self._next.get(key, 0)
        if index != wanted:
            return "duplicate" if index < wanted else "gap"
        if len(entry.value) != len(true):
            return "malformed"
        self._next[key] = index + 1
        if entry.value != true:
            self._spoilt.add(crafted.tid)
        return "" if entry.array[5] is None else self._end(key, crafted)

    def _end(self, key: tuple[int, bytes], crafted: Crafted) -> str:
        self._over.add(key)
        if crafted.tid in self._spoilt:
            return "digest-mismatch"
        self.published[crafted.path] = digest(crafted.content)
        return ""


def doubled(parts: Parts, rng: random.Random) -> Parts:
    """Each record one to three times."""
    return [part for part in parts for _ in range(rng.randrange(1, 4))]


def replayed(parts: Parts, rng: random.Random) -> Parts:
    """All of it, and all of it again."""
    return [*parts, *parts]


def shuffled(parts: Parts, rng: random.Random) -> Parts:
    """In any order, and then again as it should be."""
    return [*rng.sample(parts, len(parts)), *parts]


def shortened(parts: Parts, rng: random.Random) -> Parts:
    """A byte of one value is missing; then again as it should be."""
    spoilt = list(parts)
    at = rng.randrange(len(parts))
    spoilt[at] = (parts[at][0], parts[at][1][:-1])
    return [*spoilt, *parts]


def tampered(parts: Parts, rng: random.Random) -> Parts:
    """A bit of one value is another one."""
    spoilt = list(parts)
    at = rng.randrange(len(parts))
    value = bytearray(parts[at][1])
    value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    spoilt[at] = (parts[at][0], bytes(value))
    return spoilt


def as_it_is(parts: Parts, rng: random.Random) -> Parts:
    return parts


SPOILERS: tuple[Callable[[Parts, random.Random], Parts], ...] = (
    *(doubled, replayed, shuffled, shortened, tampered, as_it_is),
)


class Tape:
    """Puts records on the topic until ``bad`` of them must be dropped."""

    def __init__(self, sender: Sender, rng: random.Random, partitions: int = 8) -> None:
        self.expected = Expected()
        self.records = 0
        self._sender = sender
        self._rng = rng
        self._partitions = partitions
        self._files = 0
        self._kinds: list[Bad] = []  # of junk, that are to come yet

    def play(self, bad: int) -> None:
        """Returns when they are in Kafka, each stream to its end."""
        streams: list[Iterator[None]] = []
        target = self.expected.bad.total() + bad
        while streams or self.expected.bad.total() < target:
            if len(streams) < STREAMS and self.expected.bad.total() < target:
                streams.append(self._stream())
            at = self._rng.randrange(len(streams))
            if next(streams[at], self) is self:
                streams[at] = streams[-1]
                streams.pop()
            if self.records % BATCH == 0:
                self._sender.flush()
        self._sender.flush()

    def _stream(self) -> Iterator[None]:
        """Something that happens in one partition, record by record."""
        partition = self._rng.randrange(self._partitions)
        if self._rng.random() < 0.1:
            bad = self._junk()
            self._put(partition, None, Entry(bad.value, None, bad.headers, bad.reason))
            yield
            return
        self._files += 1
        content = self._rng.randbytes(self._rng.randrange(1, 6 * CHUNK))
        path = b"%d/%d" % (self._files % 50, self._files)
        crafted = Crafted(self._sender.topic, path, content, chunk_size=CHUNK)
        spoil = self._rng.choice(SPOILERS)
        for array, value in spoil(list(crafted.records()), self._rng):
            self._put(partition, crafted, Entry(value, array))
            yield

    def _junk(self) -> Bad:
        """Any of those that single tests are about, but for the few that are large."""
        if self._rng.random() < 0.3:
            return Bad("malformed", [("kfd", os.urandom(self._rng.randrange(20)))])
        if not self._kinds:
            kinds = [*foreign_records(), *hostile_records(self._sender.topic)]
            self._kinds = [one for one in kinds if len(one.value or b"") < CHUNK]
            self._rng.shuffle(self._kinds)
        return self._kinds.pop()

    def _put(self, partition: int, crafted: Crafted | None, entry: Entry) -> None:
        self.expected.read(partition, crafted, entry)
        self.records += 1
        if entry.array is not None:
            self._sender.record(entry.array, entry.value, partition)
        else:
            self._sender.raw(entry.headers, entry.value, partition)


def paths(published: dict[bytes, str]) -> dict[bytes, set[str]]:
    """As the contents that there may be, by path."""
    versions: dict[bytes, set[str]] = defaultdict(set)
    for path, content in published.items():
        versions[path].add(content)
    return versions
