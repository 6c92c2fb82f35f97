"""openmsistream as a side: its programs as they are, in an environment of their own.

Its programs don't tell when they begin. When they send, the clock runs from their start, less what
starting takes them; when they receive, from the first file in their directory, which favours them.
"""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.benchmark.data import Files
from scripts.benchmark.kafka import DURABLE, PRODUCER
from scripts.benchmark.latency import latencies
from scripts.benchmark.plain import PUBLISHED_CHUNK, check_published
from scripts.benchmark.process import Process, Usage, wait_for
from scripts.benchmark.side import Site, Timing, settle_disk

_LOOK_SECONDS = 0.05

_CONFIG = """\
[broker]
bootstrap.servers = {bootstrap}
[producer]
{producer}
key.serializer = StringSerializer
value.serializer = DataFileChunkSerializer
[consumer]
group.id = {group}
auto.offset.reset = earliest
enable.auto.commit = False
fetch.min.bytes = 100000
key.deserializer = StringDeserializer
value.deserializer = DataFileChunkDeserializer
"""


def environment() -> Path:
    """Where its programs are installed: ``need_peer`` in ``scripts/lib.sh`` sees to that."""
    if "KFD_PEER" not in os.environ:
        raise ValueError("KFD_PEER names no environment with openmsistream's programs")
    return Path(os.environ["KFD_PEER"])


class Peer:
    """The peer, with its defaults but for the producer's properties."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._environment = environment()
        self._startings: dict[str, float] = {}  # by program
        self._filled: dict[Files, str] = {}
        self._topics = ExitStack()

    def close(self) -> None:
        """Delete the topics that it keeps between rounds."""
        self._topics.close()

    def upload(self, files: Files, chunk_size: int) -> Timing:
        """From the program's start, once it has started, to the last record in the topic."""
        with self._site.broker.topic() as topic:
            return self._upload(topic, files, chunk_size)

    def publish(self, files: Files) -> Timing:
        """From the first file in the directory until all have all of their bytes."""
        topic = self._filled_topic(files)
        with self._site.home() as home, self.receiver(home, topic) as receiver:
            output = home / "output"
            names = {path.name for path in files.paths()}
            settle_disk()
            began = _when(receiver, lambda: any(path.name in names for path in output.iterdir()))
            before = receiver.usage()
            ended = _when(receiver, lambda: not files.missing_in(output))
            used = receiver.usage().since(before)
            check_published(files, output)
        return Timing(ended - began, {"peer": used})

    def latency(self, count: int) -> tuple[list[float], dict[str, Usage]]:
        """Seconds from each close until the file has all of its bytes at the other side."""
        with self._site.home() as home, self._site.broker.topic() as topic:
            watched = home / "watched"
            watched.mkdir()
            arguments = ["--chunk_size", str(PUBLISHED_CHUNK), str(watched)]
            with (
                self._program("DataFileUploadDirectory", home, topic, arguments) as sender,
                self.receiver(home, topic) as receiver,
            ):
                self._wait_until_watching(watched, topic)
                seconds = latencies(watched, home / "output", count)
                return seconds, {"sender": sender.usage(), "receiver": receiver.usage()}

    def _upload(self, topic: str, files: Files, chunk_size: int) -> Timing:
        records = files.count * math.ceil(files.size / chunk_size)
        with (
            self._site.home() as home,
            self.sender(home, topic, files, chunk_size) as (
                sender,
                began,
            ),
        ):
            ended = _when(sender, lambda: self._site.broker.records(topic) >= records)
            return Timing(ended - began, {"peer": sender.usage()})

    def _filled_topic(self, files: Files) -> str:
        """A topic with these files in the peer's format, sent once and kept."""
        if files not in self._filled:
            topic = self._topics.enter_context(self._site.broker.topic())
            self._upload(topic, files, PUBLISHED_CHUNK)
            self._filled[files] = topic
        return self._filled[files]

    def _wait_until_watching(self, watched: Path, topic: str) -> None:
        """It sends only what comes after it began to watch, and doesn't tell when that was."""
        attempts = iter(range(1000))

        def seen() -> bool:
            (watched / f"first{next(attempts)}.bin").write_bytes(b"x")
            return self._site.broker.records(topic) > 0

        wait_for("the peer to watch", seen, every=1)

    def _starting(self, name: str) -> float:
        """Seconds that it takes to start a program, as far as its help text."""
        if name not in self._startings:
            program = self._environment / "bin" / name
            self._startings[name] = min(_help_seconds(program) for _ in range(3))
        return self._startings[name]

    @contextmanager
    def sender(
        self, home: Path, topic: str, files: Files, chunk_size: int
    ) -> Iterator[tuple[Process, float]]:
        """A program that sends these files, and when it had started."""
        name, *arguments = _how_to_send(files, home / "watched")
        starting = self._starting(name)
        settle_disk()
        began = time.time() + starting
        arguments += ["--chunk_size", str(chunk_size)]
        with self._program(name, home, topic, arguments) as program:
            yield program, began

    @contextmanager
    def receiver(self, home: Path, topic: str) -> Iterator[Process]:
        """It puts files together in ``home/output``."""
        output = home / "output"
        output.mkdir()
        with self._program("DataFileDownloadDirectory", home, topic, [str(output)]) as program:
            yield program

    def _program(self, name: str, home: Path, topic: str, arguments: list[str]) -> Process:
        config = home / f"{name}.config"
        producer = "\n".join(f"{key} = {value}" for key, value in (PRODUCER | DURABLE).items())
        config.write_text(
            _CONFIG.format(
                bootstrap=self._site.broker.bootstrap, producer=producer, group=home.name
            )
        )
        program = self._environment / "bin" / name
        command = [program, "--config", config, "--topic_name", topic, *arguments]
        return Process(command, home / f"{name}.log", environment=_variables())


def _how_to_send(files: Files, watched: Path) -> list[str]:
    """Program and arguments; that for a single file keeps no account of chunks, and is faster."""
    if files.count == 1:
        return ["UploadDataFile", str(next(files.paths()))]
    files.link_into(watched)
    return ["DataFileUploadDirectory", "--upload_existing", str(watched)]


def _help_seconds(program: Path) -> float:
    command = [str(program), "--help"]
    began = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_variables())
    return time.time() - began


def _variables() -> dict[str, str]:
    """Without the path that the benchmark's own modules are found by."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _when(process: Process, condition: Callable[[], bool]) -> float:
    """The time at which it became true; the process must not fail until then."""

    def look() -> bool:
        process.usage()  # a program that is done ends
        return condition()

    wait_for("the peer", look, _LOOK_SECONDS)
    return time.time()
