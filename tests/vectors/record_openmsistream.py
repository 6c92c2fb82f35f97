"""Writes openmsistream-VERSION.json: records as openmsistream's own programs send them.

    KFD_PEER/bin/python record_openmsistream.py BOOTSTRAP > openmsistream-VERSION.json

It runs in openmsistream's environment, imports nothing of kfd, and reads what
DataFileUploadDirectory and UploadDataFile put into a topic of its own. Only what these programs
never write is made with openmsistream's serializer instead: a name that something is appended to.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from openmsistream.data_file_io.entity.data_file_chunk import DataFileChunk
from openmsistream.kafka_wrapper.serialization import DataFileChunkSerializer

CHUNK_SIZE = 1024
MTIME_NS = 1_234_567_890_123_456_789
CONFIG = """\
[broker]
bootstrap.servers = {bootstrap}
[producer]
key.serializer = StringSerializer
value.serializer = DataFileChunkSerializer
"""
FILES = {
    "one.bin": b"hello",
    "exact.bin": bytes(range(256)) * 8,
    "many.bin": bytes(range(256)) * 10,
    "sub/x_y.dat": b"abc" * 100,
    "sub/deep er/\u00fc 1.dat": b"d" * 7,
    "back\\slash.dat": b"b",
    "semi;colon": b"s",
}


def main() -> None:
    bootstrap, topic = sys.argv[1], f"vectors-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 3)])[topic].result()
    with tempfile.TemporaryDirectory() as home:
        config, watched = Path(home, "peer.config"), Path(home, "watched")
        config.write_text(CONFIG.format(bootstrap=bootstrap))
        fill(watched)
        options = ["--config", str(config), "--topic_name", topic, "--chunk_size", str(CHUNK_SIZE)]
        upload_directory(watched, options)
        run("UploadDataFile", *options, str(watched / "sub" / "x_y.dat"))
        recorded = list(read(bootstrap, topic))
    recorded.append(serialized("_APP"))
    recorded.sort(key=lambda one: (one["key"], one["value"]))
    json.dump(recorded, sys.stdout, indent=1, ensure_ascii=True)
    print()


def fill(watched: Path) -> None:
    for name, content in FILES.items():
        file = watched / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, ns=(MTIME_NS, MTIME_NS))


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def run(name: str, *arguments: str) -> None:
    subprocess.run([program(name), *arguments], check=True, stderr=subprocess.DEVNULL)


def upload_directory(watched: Path, options: list[str]) -> None:
    command = [program("DataFileUploadDirectory"), *options, "--upload_existing", str(watched)]
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(15)  # it doesn't tell when it has queued all that is there
    sender.communicate(b"q\n", timeout=60)


def read(bootstrap: str, topic: str) -> Iterator[dict[str, Any]]:
    """Everything in the topic; what comes from UploadDataFile has a name, and no directory."""
    settings = {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    quiet = 0
    while quiet < 10:
        message = consumer.poll(1.0)
        quiet = quiet + 1 if message is None else 0
        if message is not None and message.error() is None:
            yield vector(message.key().decode(), message.value())
    consumer.close()


def serialized(append: str) -> dict[str, Any]:
    data = b"appended"
    digest = hashlib.sha512(data).digest()
    path = Path("/nowhere/sub/run.1.trc")
    chunk = DataFileChunk(
        *(path, path.name, digest, digest, 0, 0, len(data), 1, 1),
        rootdir=Path("/nowhere"), filename_append=append, data=data,
    )  # fmt: skip
    return vector(chunk.msg_key, DataFileChunkSerializer()(chunk))


def vector(key: str, value: bytes) -> dict[str, Any]:
    return {"key": key, "value": value.hex()}


if __name__ == "__main__":
    main()
