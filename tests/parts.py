"""Real parts of the daemon for unit tests: a ledger that runs, a route's directory, records."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from blake3 import blake3

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.incoming.receiver import Receiver
from kfd.daemon.incoming.record import Record
from kfd.daemon.incoming.space import Claims, Space
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.ledger import Ledger
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Outgoing
from kfd.daemon.publishing.destination import Destination
from kfd.daemon.publishing.finishing import Rules
from kfd.daemon.publishing.holding import Bounds
from kfd.daemon.publishing.naming import Naming
from kfd.daemon.publishing.partials import Partials
from kfd.daemon.publishing.publisher import Publisher
from kfd.daemon.stage import Stage
from kfd.daemon.throttle import Throttle
from kfd.paths import Layout
from kfd.units import Room
from kfd.wire import FLAG_ABORT, HEADER_NAME, Begin, End, Header, chunk_count, encode_header
from tests.support import unavailable

TOPIC = "lecroy_files"
TOPIC_ID = "topic-1"
ROUTE = "archive"
CHUNK = 4
GENERATION = 1_700_000_000_000_000
NO_ROOM = Room()


@contextmanager
def running(stage: Stage) -> Iterator[None]:
    """A stage while it runs; it must end in order."""
    deaths: list[BaseException] = []
    stage.start(lambda _stage, error: deaths.append(error))
    try:
        yield
    finally:
        stage.stop()
        assert stage.join(30)
    assert not deaths, deaths


@contextmanager
def running_ledger(
    directory: Path, health: Health | None = None, default: str = "scope3"
) -> Iterator[Ledger]:
    """A ledger while it runs; its process could have ended after that."""
    ledger = Ledger(directory / "ledger.db", health or Health(), origin=None, default=default)
    try:
        with running(ledger):
            yield ledger
    finally:
        close_reader(ledger)


def close_reader(ledger: Ledger) -> None:
    """Let go of the calling thread's connection."""
    connection = getattr(ledger._local, "connection", None)
    if connection is not None:
        connection.close()
        del ledger._local.connection


def version(path: bytes = b"run.trc", **changes: int | bytes) -> FileVersion:
    values: dict[str, int | bytes] = {
        "source": b"/srv/scope3/" + path,
        "device": 1,
        "inode": 2,
        "size": 3,
        "mtime_ns": 4,
        "mode": 0o644,
        "ctime_ns": 5,
    }
    return FileVersion(path=path, **(values | changes))  # type: ignore[arg-type]


def version_of(path: Path, *, inodes: bool = True) -> FileVersion:
    """The version of a real file."""
    source = os.fsencode(path)
    return FileVersion.of(os.path.basename(source), source, os.lstat(source), inodes=inodes)


@dataclass(frozen=True)
class Sent:
    """A transfer as a sender with chunks of ``CHUNK`` bytes makes it."""

    content: bytes
    path: bytes = b"run.trc"
    tid: bytes = field(default_factory=lambda: os.urandom(16))
    generation: int = GENERATION
    origin: str = "scope3"
    mode: int = 0o644
    mtime_ns: int = 1_600_000_000_123_456_789
    digest: bytes | None = None  # where it isn't the right one

    @cached_property
    def begin(self) -> Begin:
        size = len(self.content)
        return Begin(
            path=self.path,
            topic=TOPIC,
            origin=self.origin,
            instance=bytes(16),
            generation=self.generation,
            size=size,
            mtime_ns=self.mtime_ns,
            mode=self.mode,
            chunk_size=CHUNK,
            chunks=chunk_count(size, CHUNK),
            meta={},
        )

    def records(self, partition: int = 0, offset: int = 0) -> list[Record]:
        """Its records, at consecutive offsets."""
        begin = self.begin
        digest = self.digest or blake3(self.content).digest()
        records = []
        for index in range(begin.chunks):
            last = index == begin.chunks - 1
            header = Header(
                self.tid,
                index,
                0,
                begin if index == 0 else None,
                End(begin.size, begin.chunks, digest) if last else None,
            )
            value = self.content[index * CHUNK : (index + 1) * CHUNK]
            records.append(record(partition, offset + index, header, value))
        return records

    def abort(self, partition: int = 0, offset: int = 0) -> Record:
        return record(partition, offset, Header(self.tid, 0, FLAG_ABORT), b"")


def record(partition: int, offset: int, header: Header, value: bytes | None) -> Record:
    return Record(partition, offset, [(HEADER_NAME, encode_header(header))], value)


class Receiving:
    """The receiving parts of one consumer thread, on a real directory and a real ledger."""

    def __init__(
        self,
        ledger: Ledger,
        directory: Path,
        *,
        layout: str = "{path}",
        file_mode: int = 0o640,
        min_free: Room = NO_ROOM,
        incomplete_timeout: float = 3600.0,
        max_size: int = 1 << 40,
        mixed: bool = False,
        take: bool = True,
    ) -> None:
        """``take``: begin to read partitions 0 to 2 at once, at offset 0."""
        self.root = directory
        self.ledger = ledger
        self.destination = Destination(directory, mode=0o750, group=-1, owner="test")
        self.assigned = {0, 1, 2}
        self.naming = Naming(ROUTE, Layout.parse(layout), ledger)
        self.rules = Rules(ROUTE, file_mode, -1)
        self.terms = Terms(ROUTE, TOPIC, max_size, incomplete_timeout, mixed)
        self.min_free = min_free
        self.claims = Claims()
        self.bounds = Bounds()
        self.start = 0  # where partition 0 began to be read
        self.partials = Partials(self.destination)
        self.publisher = self._publisher(self.partials)
        self.receiver = self._receiver(self.partials, self.publisher)
        if take:
            self._take(self.receiver)

    def another_thread(self) -> Receiver:
        """The receiver of another consumer thread of this route."""
        partials = Partials(self.destination)
        receiver = self._receiver(partials, self._publisher(partials))
        self._take(receiver)
        return receiver

    def _publisher(self, partials: Partials) -> Publisher:
        return Publisher(
            *(self.rules, self.naming, self.destination, partials, self.ledger, self.assigned),
            self.bounds,
        )

    def _receiver(self, partials: Partials, publisher: Publisher) -> Receiver:
        space = Space(self.destination, self.min_free, self.claims)
        return Receiver(self.terms, self.ledger, partials, publisher, space, Throttle())

    def _take(self, receiver: Receiver) -> None:
        for number in sorted(self.assigned):
            receiver.take(number, TOPIC_ID, 0)

    def close(self) -> None:
        for key in list(self.partials._open):
            self.partials.forget(key)
        self.destination.close()

    def parts(self) -> list[str]:
        """The names of the partials that are there."""
        return sorted(path.name for path in (self.root / ".kfd").glob("*.part"))

    def visible(self) -> dict[bytes, bytes]:
        """Every file outside ``.kfd``: its path below the root and its content."""
        return visible(self.root)


def visible(root: Path) -> dict[bytes, bytes]:
    found = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top):
        if directory == top and b".kfd" in directories:
            directories.remove(b".kfd")
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


@contextmanager
def receiving(ledger: Ledger, directory: Path, **options: object) -> Iterator[Receiving]:
    parts = Receiving(ledger, directory, **options)  # type: ignore[arg-type]
    try:
        yield parts
    finally:
        parts.close()


@contextmanager
def mounted(where: Path, kind: str, options: str = "rw") -> Iterator[Path]:
    """A file system of its own at ``where``. Needs root."""
    where.mkdir(exist_ok=True)
    command = ["mount", "-t", kind, "-o", options, "kfd-test", str(where)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        unavailable(f"a {kind} can't be mounted here (no root, or not allowed)")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(directory: Path, leave: int = 0) -> Path:
    """Use up a file system but for about ``leave`` bytes, by a file that may be removed."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, max(0, filler.stat().st_size - leave))
    return filler


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process; its exit status, negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        gc.disable()  # a Kafka client of the parent's would be ended, whose threads aren't here
        code = 99
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - told by the exit status
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def outgoing_row(number: int, size: int, chunk_size: int) -> Outgoing:
    """A row of ``outgoing`` that was claimed."""
    return Outgoing(
        *(number, number.to_bytes(16, "big"), "lab", "t", b"%d" % number, b"/lab/%d" % number),
        *(1, 2, size, 3, 0o644, 4, {}, SMALL if size <= chunk_size else LARGE),
        *(TOPIC_ID, 0, chunk_size, 0, None, None, 0.0, None),
    )
