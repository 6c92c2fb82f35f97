"""How fast ``kfdctl inspect topic --count`` reads, beside a plain consumer loop. A program:

    python -m scripts.benchmark.inspection BOOTSTRAP [--rounds N] [--scale PART] [--only TEXT]

Each work is a new topic; both sides read all of it in each round, one after the other, and the
clock of each runs from its first question to the brokers until it has counted the last record.
Medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blake3 import blake3
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from kfd.inspection.reading import Start, TopicReader
from kfd.inspection.record import Recognizer
from kfd.inspection.totals import Counting, PartitionTotal, Totals
from kfd.openmsistream import Encoder
from kfd.wire import HEADER_NAME, Begin, End, Header, encode_header

PARTITIONS = 8
BATCH = 500


@dataclass(frozen=True, slots=True)
class Work:
    """``records`` of ``size`` bytes; in files of ``chunks`` each."""

    name: str
    records: int
    size: int
    chunks: int
    peer: bool = False


WORKS = (
    Work("kfd, 512 KiB chunks of one file", 1024, 512 << 10, 1024),
    Work("kfd, 16 KiB chunks of one file", 32_768, 16 << 10, 32_768),
    Work("kfd, files of 20 kB", 20_000, 20_000, 1),
    Work("kfd, files of 100 B", 200_000, 100, 1),
    Work("openmsistream, 512 KiB chunks", 1024, 512 << 10, 1024, peer=True),
    Work("openmsistream, 16 KiB chunks", 32_768, 16 << 10, 32_768, peer=True),
)


def records(work: Work, topic: str) -> Iterator[tuple[int, bytes, list[tuple[str, bytes]], bytes]]:
    """Partition, key, headers and value of each."""
    value = os.urandom(work.size)
    digest = hashlib.sha512(value).digest()
    encoder = Encoder(b"run42.trc", digest, work.chunks, 1e9)
    for number in range(work.records):
        transfer, index = divmod(number, work.chunks)
        if work.peer:
            peer = encoder.value(index + 1, index * work.size, value, digest)
            yield number % PARTITIONS, encoder.key(index + 1), [], peer
            continue
        tid = transfer.to_bytes(16, "big")
        header = encode_header(_header(work, topic, tid, index, value))
        yield transfer % PARTITIONS, tid.hex().encode(), [(HEADER_NAME, header)], value


def _header(work: Work, topic: str, tid: bytes, index: int, value: bytes) -> Header:
    size = work.size * work.chunks
    begin = Begin(b"runs/run42.trc", topic, "scope3", bytes(16), 1, size, 1, 0o644,
                  1 << (work.size - 1).bit_length(), work.chunks, {})  # fmt: skip
    end = End(size, work.chunks, blake3(value).digest())
    last = index == work.chunks - 1
    return Header(tid, index, 0, begin if index == 0 else None, end if last else None)


def fill(bootstrap: str, work: Work) -> str:
    """A topic with the records of ``work``."""
    topic = f"kfd-inspect-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(30)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": "20"})
    for partition, key, headers, value in records(work, topic):
        while True:
            try:
                producer.produce(topic, value, key, partition, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    return topic


def plain(bootstrap: str, topic: str) -> int:
    """The limit: count records and bytes, with librdkafka's defaults."""
    client = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "plain", "enable.partition.eof": "true"}
    )
    parts = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
    client.assign(parts)
    found = size = ended = 0
    while ended < PARTITIONS:
        for message in client.consume(BATCH, 0.1):
            error = message.error()
            if error is None:
                found += 1
                size += len(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                ended += 1
    client.close()
    return found


def inspected(bootstrap: str, topic: str) -> int:
    """What ``kfdctl inspect topic --count`` does once it is loaded."""
    reader = TopicReader({"bootstrap.servers": bootstrap}, topic, 10)
    spans = reader.spans(Start())
    reader.begin(spans, follow=False)
    partitions = [PartitionTotal(one.partition, one.low, one.high, one.start) for one in spans]
    counting = Counting(Totals(topic, partitions=partitions))
    look = Recognizer(topic, reader.topic_id).look
    for batch in reader.records():
        for record in batch:
            counting.add(record, look(record))
    reader.close()
    assert sum(one.begins for one in counting.totals.kinds) > 0
    return counting.totals.records


def clocked(side: Callable[[str, str], int], bootstrap: str, topic: str, wanted: int) -> float:
    began = time.monotonic()
    assert side(bootstrap, topic) == wanted
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="those whose name holds this text")
    options = parser.parse_args()
    for work in (one for one in WORKS if options.only in one.name):
        chunks = max(1, int(work.chunks * options.scale)) if work.chunks > 1 else 1
        count = max(1, int(work.records * options.scale))
        some = Work(work.name, count, work.size, chunks, work.peer)
        show(some, fill(options.bootstrap, some), options)


def show(work: Work, topic: str, options: argparse.Namespace) -> None:
    """All rounds of one work, after one of each for nothing."""
    sides = (plain, inspected)
    for side in sides:
        clocked(side, options.bootstrap, topic, work.records)
    rounds = [
        [clocked(side, options.bootstrap, topic, work.records) for side in sides]
        for _ in range(options.rounds)
    ]
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    loop, count = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(one / other for one, other in rounds)
    megabytes = work.records * work.size / 1e6
    print(
        f"{work.name}: {work.records:,} records, plain {work.records / loop:,.0f}/s"
        f" {megabytes / loop:,.0f} MB/s, inspect {work.records / count:,.0f}/s"
        f" {megabytes / count:,.0f} MB/s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
