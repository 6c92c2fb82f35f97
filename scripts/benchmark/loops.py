"""The plain loops, each a program: as fast as librdkafka goes from Python, without guarantees.

    python -m scripts.benchmark.loops upload BOOTSTRAP TOPIC CHUNK_SIZE DIRECTORY COUNT
    python -m scripts.benchmark.loops fill BOOTSTRAP TOPIC CHUNK_SIZE DIRECTORY COUNT
    python -m scripts.benchmark.loops download BOOTSTRAP TOPIC GROUP DIRECTORY COUNT

``upload`` reads, hashes and produces; ``download`` consumes, hashes, writes, fsyncs and renames;
both print what it took as JSON. ``fill`` produces kfd's records in one transaction, says "filled",
and commits it when it gets a line: all of them can be read from that moment on, and not before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path

from blake3 import blake3
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from msgpack import unpackb

from kfd.wire import HEADER_NAME, Begin, End, Header, chunk_count, encode_header, new_tid
from scripts.benchmark.data import Files
from scripts.benchmark.kafka import DURABLE, PARTITIONS, PRODUCER
from scripts.benchmark.process import usage

BATCH = 500  # records
Headers = list[tuple[str, str | bytes | None]]


@dataclass(slots=True)
class Chunk:
    """One record to be: a piece of a file, and the digest up to its end."""

    index: int
    last: bool
    value: bytes
    hasher: blake3


def read(path: Path, chunk_size: int) -> Iterator[Chunk]:
    """The chunks of a file, hashed."""
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        chunks = chunk_count(os.fstat(file.fileno()).st_size, chunk_size)
        for index in range(chunks):
            value = file.read(chunk_size)
            hasher.update(value)
            yield Chunk(index, index == chunks - 1, value, hasher)


class Sink:
    """A producer with the properties of all sides, and kfd's default bounds on its queue."""

    def __init__(self, bootstrap: str, topic: str, **properties: str) -> None:
        bounds = {"queue.buffering.max.messages": "3000", "queue.buffering.max.kbytes": "65536"}
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, **PRODUCER, **DURABLE, **bounds, **properties}
            | {"delivery.report.only.error": True, "on_delivery": _refused}
        )
        self._producer.list_topics(topic, 30)  # it is connected when the clock starts

    def put(self, key: bytes, value: bytes, partition: int, headers: Headers | None = None) -> None:
        """Hand over one record, waiting for room."""
        while True:
            try:
                self._producer.produce(self._topic, value, key, partition, headers=headers)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def finish(self) -> None:
        """Wait until all are acknowledged."""
        while self._producer.flush(10):
            pass

    def begin(self) -> None:
        """Begin a transaction."""
        self._producer.init_transactions(30)
        self._producer.begin_transaction()

    def commit(self) -> None:
        """Let everybody read what was put."""
        self._producer.commit_transaction(30)


def _refused(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def upload(bootstrap: str, topic: str, chunk_size: int, files: Files) -> None:
    """Read, hash, produce."""
    sink = Sink(bootstrap, topic)
    before = usage(os.getpid())
    began = time.time()
    for number, path in enumerate(files.paths()):
        key = path.name.encode()
        for chunk in read(path, chunk_size):
            sink.put(key, chunk.value, number % PARTITIONS)
    sink.finish()
    seconds = time.time() - began
    print(json.dumps([seconds, *astuple(usage(os.getpid()).since(before))]))


def fill(bootstrap: str, topic: str, chunk_size: int, files: Files) -> None:
    """Produce all files as kfd does, and let them be read at once when told to."""
    sink = Sink(bootstrap, topic, **{"transactional.id": topic, "transaction.timeout.ms": "900000"})
    sink.begin()
    for number, path in enumerate(files.paths()):
        begin = _begin(path, topic, number, chunk_size)
        tid = new_tid(number, os.urandom(10))
        for chunk in read(path, chunk_size):
            header = encode_header(_header(tid, begin, chunk))
            key, partition = tid.hex().encode(), number % PARTITIONS
            sink.put(key, chunk.value, partition, [(HEADER_NAME, header)])
    sink.finish()
    print("filled", flush=True)
    sys.stdin.readline()
    sink.commit()


def _begin(path: Path, topic: str, number: int, chunk_size: int) -> Begin:
    status = path.stat()
    return Begin(
        path=path.name.encode(),
        topic=topic,
        origin="benchmark",
        instance=bytes(16),
        generation=number + 1,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        mode=0o644,
        chunk_size=chunk_size,
        chunks=chunk_count(status.st_size, chunk_size),
        meta={},
    )


def _header(tid: bytes, begin: Begin, chunk: Chunk) -> Header:
    end = End(begin.size, begin.chunks, chunk.hasher.digest()) if chunk.last else None
    return Header(tid, chunk.index, 0, None if chunk.index else begin, end)


@dataclass(slots=True)
class Partial:
    """A file that is being put together."""

    name: bytes
    fd: int
    hasher: blake3 = field(default_factory=blake3)


class Output:
    """The directory that files come to; everything goes in order, and nothing is checked twice."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._open: dict[bytes, Partial] = {}
        self.published = 0

    def put(self, message: Message) -> None:
        """Append a record to its file; the last one publishes it."""
        headers = message.headers()
        value = message.value()
        assert isinstance(headers, list)
        assert isinstance(value, bytes)
        _, tid, _, _, begin, end = unpackb(headers[0][1])
        if begin is not None:
            self._open[tid] = Partial(begin["path"], self._create(tid))
        partial = self._open[tid]
        partial.hasher.update(value)
        os.write(partial.fd, value)
        if end is not None:
            assert partial.hasher.digest() == end["digest"]
            self._publish(tid, self._open.pop(tid))

    def sync(self) -> None:
        """Make the names durable."""
        os.fsync(self._directory)

    def _create(self, tid: bytes) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return os.open(_part(tid), flags, 0o600, dir_fd=self._directory)

    def _publish(self, tid: bytes, partial: Partial) -> None:
        os.fsync(partial.fd)
        os.close(partial.fd)
        source = target = self._directory
        os.rename(_part(tid), partial.name, src_dir_fd=source, dst_dir_fd=target)
        self.published += 1


def _part(tid: bytes) -> str:
    return f".{tid.hex()}.part"


def download(bootstrap: str, topic: str, group: str, files: Files) -> None:
    """Consume, hash, write, fsync, rename, until all are published."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group}
        | {"auto.offset.reset": "earliest", "enable.auto.commit": "false"}
    )
    consumer.subscribe([topic])
    output = Output(files.directory)
    before = usage(os.getpid())
    while output.published < files.count:
        published = output.published
        for message in _some(consumer):
            output.put(message)
        if output.published > published:
            output.sync()
    ended = time.time()
    print(json.dumps([ended, *astuple(usage(os.getpid()).since(before))]))
    consumer.close()


def _some(consumer: Consumer) -> list[Message]:
    """The next records that are there; waits for the first."""
    while (first := consumer.poll(1.0)) is None:
        pass
    messages = [first, *consumer.consume(BATCH - 1, 0)]
    for error in (message.error() for message in messages):
        if error is not None:
            raise KafkaException(error)
    return messages


def main(action: str, bootstrap: str, topic: str, how: str, directory: str, count: str) -> None:
    """Run one of the programs."""
    if action == "download":
        download(bootstrap, topic, how, Files(Path(directory), int(count), 0))
        return
    program: Callable[[str, str, int, Files], None] = {"upload": upload, "fill": fill}[action]
    program(bootstrap, topic, int(how), Files(Path(directory), int(count), 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
