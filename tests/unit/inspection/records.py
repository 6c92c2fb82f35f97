"""Records of every kind, as they would be read from a topic."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import msgpack

from kfd.inspection.record import Headers, Look, Recognizer, Record
from kfd.openmsistream import Encoder, decode
from kfd.scattered import Piece, tid_of
from tests.integration.records import Crafted

TOPIC = "lecroy"
_offsets = itertools.count()

TOPIC_ID = "an id"

recognizer = Recognizer(TOPIC, TOPIC_ID)


def record(
    value: bytes | None, headers: Headers | None = None, *, partition: int = 0, key: bytes = b"k"
) -> Record:
    return Record(partition, next(_offsets), 1.0, key, headers, value)


def kfd_records(content: bytes, path: bytes = b"run.trc", **claims: Any) -> list[Record]:
    """A file as kfd sends it, in chunks of 4 bytes."""
    crafted = Crafted(TOPIC, path, content, chunk_size=4, **claims)
    return [
        record(value, [("kfd", msgpack.packb(array))], key=crafted.tid.hex().encode())
        for array, value in crafted.records()
    ]


def peer_records(content: bytes, path: bytes = b"run.trc", size: int = 4) -> list[Record]:
    """A file as openmsistream sends it, over eight partitions."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    encoder = Encoder(path, hashlib.sha512(content).digest(), len(pieces), 1e9)
    return [
        record(
            encoder.value(number, (number - 1) * size, piece, hashlib.sha512(piece).digest()),
            partition=number % 8,
            key=encoder.key(number),
        )
        for number, piece in enumerate(pieces, 1)
    ]


def looked(
    records: list[Record], recognizer: Recognizer = recognizer
) -> Iterator[tuple[Record, Look]]:
    return ((one, recognizer.look(one)) for one in records)


def upload_of(some: Record, number: int) -> str:
    """Under which id a receiver lists the file when it comes for the n-th time, from 0 on."""
    return tid_of(TOPIC_ID, Piece.of(decode(some.value)).version, number).hex()
