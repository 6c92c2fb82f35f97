"""Kafka without kfd: a plain consumer that checks what kfd wrote, a producer of any record.

Headers are built and read by msgpack here, from the description of the wire format.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from blake3 import blake3
from confluent_kafka import Consumer, Message, Producer, TopicPartition

INSTANCE = bytes(range(16))
CHUNK = 1 << 16

Headers = list[tuple[str, bytes | None]] | None


def read_topic(bootstrap: str, topic: str) -> list[Message]:
    """Every record that the topic has now, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader"})
    try:
        ends = _ends(consumer, topic)
        consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in ends.items()])
        found: list[Message] = []
        wanted = sum(high - low for low, high in ends.values())
        deadline = time.monotonic() + 60
        while len(found) < wanted:
            assert time.monotonic() < deadline
            found += [one for one in consumer.consume(500, 0.5) if one.error() is None]
    finally:
        consumer.close()
    return sorted(found, key=lambda one: (one.partition(), one.offset()))


def _ends(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    return {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        for number in partitions
    }


@dataclass
class Sent:
    """What a plain consumer saw of one transfer."""

    begin: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    keys: set[bytes] = field(default_factory=set)
    partitions: set[int] = field(default_factory=set)
    values: list[bytes] = field(default_factory=list)  # without those that came twice
    aborted: bool = False

    @property
    def content(self) -> bytes:
        return b"".join(self.values)

    def take(self, index: int, begin: Any, end: Any, message: Message) -> None:
        """The next record: the next chunk, or one that was there before."""
        value = message.value()
        assert index <= len(self.values), f"chunk {index} comes after {len(self.values)} chunks"
        if index < len(self.values):
            assert self.values[index] == value, f"chunk {index} came twice and is different"
            return
        self.values.append(value)
        self.begin = begin or self.begin
        self.end = end or self.end


def transfers_on(bootstrap: str, topic: str) -> dict[bytes, Sent]:
    """Every transfer on a topic, by tid.

    Fails unless each lies in one partition, its chunks in order once repeated ones are left out.
    """
    found: dict[bytes, Sent] = defaultdict(Sent)
    for message in read_topic(bootstrap, topic):
        ((name, header),) = message.headers()
        assert name == "kfd"
        version, tid, index, flags, begin, end = msgpack.unpackb(header)
        assert version == 1
        sent = found[tid]
        sent.keys.add(message.key())
        sent.partitions.add(message.partition())
        sent.aborted |= flags == 2
        if not flags:
            sent.take(index, begin, end, message)
    for tid, sent in found.items():
        assert sent.keys == {tid.hex().encode()}
        assert len(sent.partitions) == 1
    return found


def complete(transfers: Iterable[Sent]) -> list[Sent]:
    """Those of which every chunk is there; their ends are checked."""
    whole = [one for one in transfers if one.end]
    for one in whole:
        assert one.end["digest"] == blake3(one.content).digest()
        assert one.end["chunks"] == one.begin["chunks"] == len(one.values)
        assert one.end["size"] == one.begin["size"] == len(one.content)
    return whole


@dataclass(frozen=True)
class Crafted:
    """A file as some sender could put it on the topic: of sound records, until they are spoilt."""

    topic: str
    path: bytes
    content: bytes = b"crafted"
    origin: str = "elsewhere"
    generation: int = 1
    chunk_size: int = CHUNK
    tid: bytes = field(default_factory=lambda: os.urandom(16))
    begin: dict[str, Any] = field(default_factory=dict)  # claims in place of the truth
    end: dict[str, Any] = field(default_factory=dict)

    def records(self) -> Iterator[tuple[list[Any], bytes]]:
        """The array of each header, and the value."""
        size = self.chunk_size
        values = [self.content[at : at + size] for at in range(0, len(self.content), size)] or [b""]
        for index, value in enumerate(values):
            begin = self._begin(len(values)) if index == 0 else None
            end = self._end(len(values)) if index == len(values) - 1 else None
            yield [1, self.tid, index, 0, begin, end], value

    def _begin(self, chunks: int) -> dict[str, Any]:
        return {
            "path": self.path,
            "topic": self.topic,
            "origin": self.origin,
            "instance": INSTANCE,
            "generation": self.generation,
            "size": len(self.content),
            "mtime_ns": 1_000_000_000_123_456_789,
            "mode": 0o644,
            "chunk_size": self.chunk_size,
            "chunks": chunks,
            "meta": {},
            **self.begin,
        }

    def _end(self, chunks: int) -> dict[str, Any]:
        truth = {
            "size": len(self.content),
            "chunks": chunks,
            "digest": blake3(self.content).digest(),
        }
        return {**truth, **self.end}


class Sender:
    """A plain producer to one topic; what it was given is in Kafka after :meth:`flush`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.bootstrap = bootstrap
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": "0"})

    def raw(self, headers: Headers, value: bytes | None = b"?", partition: int = 0) -> None:
        """Any record at all."""
        self._producer.produce(self.topic, value=value, headers=headers, partition=partition)

    def record(self, array: Any, value: bytes | None, partition: int = 0) -> None:
        """A record with a ``kfd`` header of this array."""
        self.raw([("kfd", msgpack.packb(array))], value, partition)

    def send(self, crafted: Crafted, partition: int = 0) -> None:
        """All records of a file."""
        for array, value in crafted.records():
            self.record(array, value, partition)

    def file(self, path: bytes, content: bytes = b"crafted", **claims: Any) -> Crafted:
        """Send a file in one call; it is in Kafka on return."""
        crafted = Crafted(self.topic, path, content, **claims)
        self.send(crafted)
        self.flush()
        return crafted

    def flush(self) -> None:
        """Wait until all is in Kafka."""
        assert self._producer.flush(30) == 0

    def unnameable(self, partition: int = 0) -> None:
        """A record with a header whose name isn't UTF-8, which no Python client lets one write."""
        self.flush()
        produce_unnameable(self.bootstrap, self.topic, partition)


def produce_unnameable(bootstrap: str, topic: str, partition: int) -> None:
    """By librdkafka itself; returns when the record is in Kafka."""
    library = _librdkafka()
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, function).restype = ctypes.c_void_p
    reason = ctypes.create_string_buffer(512)
    configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
    key, address = b"bootstrap.servers", bootstrap.encode()
    assert library.rd_kafka_conf_set(configuration, key, address, reason, 512) == 0, reason.value
    client = ctypes.c_void_p(library.rd_kafka_new(0, configuration, reason, 512))
    assert client, reason.value
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(1))
    name = b"\xff\xfekfd"
    size = ctypes.c_ssize_t
    assert library.rd_kafka_header_add(headers, name, size(len(name)), b"?", size(1)) == 0
    number = ctypes.c_int
    error = library.rd_kafka_producev(
        client,
        *(number(1), topic.encode()),  # RD_KAFKA_VTYPE_TOPIC
        *(number(3), ctypes.c_int32(partition)),
        *(number(4), b"?", ctypes.c_size_t(1)),  # the value
        *(number(7), number(2)),  # RD_KAFKA_MSG_F_COPY
        *(number(10), headers),
        number(0),
    )
    assert error == 0
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)


def _librdkafka() -> ctypes.CDLL:
    """The library that confluent_kafka has loaded into this process."""
    maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
    path = next(line.split(maxsplit=5)[5] for line in maps if "librdkafka" in line)
    return ctypes.CDLL(path)
