"""A real control server over a daemon that is only memory, for tests of server and client."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from kfd.control import (
    DaemonState,
    Direction,
    DownloadRoute,
    ListParameters,
    Problem,
    Sent,
    State,
    Status,
    Transfer,
    UploadRoute,
)
from kfd.control.catalogue import (
    Added,
    Catalogue,
    ListCataloguesReply,
    RefusedRow,
    RetryCatalogueReply,
    WaitForCatalogueReply,
)
from kfd.control.events import Event
from kfd.control.examination import AclsReply, Check, Grant, Resource
from kfd.control.quarantine import (
    ListQuarantineReply,
    Prospect,
    PurgeReply,
    Quarantined,
    ReleaseReply,
    ShowQuarantinedReply,
)
from kfd.control.reloading import ReloadReply
from kfd.control.transfers import Details, Refusal
from kfd.daemon.operations import (
    AddRequest,
    Asker,
    DrainProgress,
    OfferedFile,
    Operations,
    Retried,
    SendRequest,
)
from kfd.daemon.server.server import ControlServer
from kfd.errors import KfdError, NoSuchTransferError, NotPermittedError, UsageError
from kfd.paths import escape

VERSION = "9.8.7"
TID = "00" * 12 + "9f2c41d7"  # of the first file that is sent
NOON = time.mktime((2024, 5, 17, 12, 0, 0, 0, 0, -1))


CATALOGUE = Catalogue("lab", "sql", 3, 1, 20, 1_700_000_000.0, again=False)


def refused_row(tid: str) -> RefusedRow:
    return RefusedRow("lab", tid, "run\x1b.trc", "too long", 1_700_000_000.0)


class MemoryOperations:
    """The protocols of all ``Operations`` over a dict; tests steer it by its attributes.

    A file called ``bad…`` is refused (``bad-4…``: with exit code 4), one called ``old…`` was
    sent already.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()  # guards all below
        self.changes = 1
        self.sent: list[SendRequest] = []
        self.contents: list[bytes] = []
        self.known: dict[str, Transfer] = {}
        self.received: list[Transfer] = []  # what ``show`` has besides
        self.draining = False
        self.left = DrainProgress(0, 0)
        self.stopped = threading.Event()
        self.failure: Exception | None = None
        self.ends_at_once = True
        self.receipts = True  # whether those who send await some
        self.taken_before: State | None = State.DELIVERED  # what is called ``old…``
        self.now = status()
        self.complete = True  # whether a list is of all that there is
        self.of_members: set[str] = set()  # tids that anybody may cancel
        self.happened: list[Event] = []
        self.routes = ["scope3"]
        self.paused: set[str] = set()
        self.flying = 0
        self.checks: list[Check] = []
        self.set_aside: dict[str, Quarantined] = {}

    def send(self, request: SendRequest) -> list[Sent]:
        with self.changed:
            if self.failure is not None:
                raise self.failure
            if request.route == "locked":
                raise KfdError("route locked takes no files", fix="set send: true")
            self.sent.append(request)
            return [self._queue(file, request) for file in request.files]

    def _queue(self, file: OfferedFile, request: SendRequest) -> Sent:
        self.contents.append(os.pread(file.descriptor, 100, 0))
        size = os.fstat(file.descriptor).st_size
        path = escape(file.name or os.path.basename(file.source or b"unnamed"))
        if path.startswith("bad"):
            return _refused(path, size)
        tid = f"{len(self.known):024x}{0x9F2C41D7 + len(self.known):08x}"
        route, topic = request.route or "scope3", request.topic or "lecroy_files"
        if request.dry_run:
            return Sent(None, route, topic, path, size)
        if path.startswith("old") and not request.again:
            return Sent(tid, route, topic, path, size, already=True, state=self.taken_before)
        state = State.IN_KAFKA if self.ends_at_once else State.SENDING
        self.known[tid] = transfer(
            tid, path=path, size=size, state=state, route=route, topic=topic, receipts=self.receipts
        )
        self._change()
        return Sent(tid, route, topic, path, size)

    def update(self, tid: str, **fields: object) -> None:
        with self.changed:
            self.known[tid] = replace(self.known[tid], **fields)
            self._change()

    def move(self, tid: str, done: int) -> None:
        """Bytes were acknowledged: not a change of state."""
        with self.changed:
            self.known[tid] = replace(self.known[tid], done=done)

    def set_left(self, transfers: int, size: int) -> None:
        with self.changed:
            self.left = DrainProgress(transfers, size)
            self._change()

    def _change(self) -> None:
        self.changes += 1
        self.changed.notify_all()

    def list_quarantine(self, route: str | None, limit: int) -> ListQuarantineReply:
        entries = [one for one in self.set_aside.values() if route in (None, one.route)]
        return ListQuarantineReply(entries[:limit], sum(one.size for one in entries), 10 << 30)

    def show_quarantined(self, tid: str, route: str | None) -> ShowQuarantinedReply:
        entry = self._set_aside(tid)
        prospect = Prospect("lab/run42.trc", "", "")
        file = f"/data/lab/.kfd/quarantine/{entry.tid}-0"
        told = f"quarantined: {entry.reason}"
        meta = {"run": "42"}
        return ShowQuarantinedReply(entry, NOON, "ab" * 32, meta, file, told, prospect)

    def list_catalogues(self, name: str | None, limit: int) -> ListCataloguesReply:
        return ListCataloguesReply([CATALOGUE], [refused_row("0" * 32)][:limit])

    def add(self, request: AddRequest) -> list[Added]:
        return [
            Added(f"{at:032x}", escape(os.path.basename(one.source or b"")), 1, "ab" * 32)
            for at, one in enumerate(request.files)
        ]

    def added(self, tids: Sequence[str], name: str | None) -> WaitForCatalogueReply:
        return WaitForCatalogueReply([], [])

    def retry_catalogue(self, name: str | None, *, everything: bool) -> RetryCatalogueReply:
        return RetryCatalogueReply([CATALOGUE.name], 1)

    def release(self, tid: str, route: str | None, name: bytes | None) -> ReleaseReply:
        entry = self._set_aside(tid)
        if not entry.held:
            raise KfdError(f"the content of {entry.path} isn't there", fix="send it again")
        del self.set_aside[entry.tid]
        return ReleaseReply(entry, escape(name) if name is not None else entry.path)

    def purge(self, tids: Sequence[str], route: str | None) -> PurgeReply:
        gone = [self.set_aside.pop(self._set_aside(tid).tid) for tid in tids]
        return PurgeReply(len(gone), sum(one.size for one in gone))

    def purge_older(self, seconds: float, route: str | None) -> PurgeReply:
        before = time.time() - seconds
        return self.purge([one.tid for one in self.set_aside.values() if one.at <= before], route)

    def _set_aside(self, tid: str) -> Quarantined:
        for full, entry in self.set_aside.items():
            if full.endswith(tid):
                return entry
        raise NoSuchTransferError(f"{tid} isn't in quarantine", fix="kfdctl quarantine list")

    def transfers(self, tids: Sequence[str]) -> list[Transfer]:
        with self.changed:
            return [self._find(tid) for tid in tids]

    def _find(self, tid: str) -> Transfer:
        found = [one for full, one in self.known.items() if full.endswith(tid)]
        if not found:
            raise NoSuchTransferError(f"no transfer {tid}", fix="see kfdctl list")
        return found[0]

    def list_transfers(self, wanted: ListParameters) -> list[Transfer]:
        with self.changed:
            found = [
                one
                for one in reversed(self.known.values())
                if wanted.state in (None, one.state) and wanted.route in (None, one.route)
            ]
            return found[: wanted.limit]

    def looks_at_all(self, wanted: ListParameters) -> bool:
        return self.complete

    def show(self, tid: str, route: str | None) -> list[tuple[Transfer, Details]]:
        with self.changed:
            found = [self._find(tid), *self.received]
            return [(one, details()) for one in found if route in (None, one.route)]

    def cancel(self, tid: str, asker: Asker) -> Transfer:
        with self.changed:
            one = self._find(tid)
            if not asker.owner and one.tid not in self.of_members:
                raise NotPermittedError("you may cancel only what you have sent yourself")
            if one.state is State.IN_KAFKA:
                raise KfdError(f"{one.path} is in-kafka: it can't be cancelled any more")
            self.known[one.tid] = replace(one, state=State.CANCELLED)
            self._change()
            return self.known[one.tid]

    def retry(self, tids: Sequence[str], asker: Asker) -> Retried:
        with self.changed:
            return self._retry([self._find(tid) for tid in tids])

    def _retry(self, transfers: Sequence[Transfer]) -> Retried:
        gone = [one for one in transfers if one.path.startswith("gone")]
        refused = [Refusal(one.tid, one.path, "the file is no longer there", "") for one in gone]
        again = [replace(one, successor="ab" * 16) for one in transfers if one not in gone]
        return Retried(again, refused)

    def retry_failed(
        self, route: str | None, after: int, asker: Asker
    ) -> tuple[Retried, int | None]:
        """Batches of two."""
        with self.changed:
            failed = [
                one
                for one in self.known.values()
                if one.state is State.FAILED and route in (None, one.route)
            ]
            goes_on = len(failed) > after + 2
            return self._retry(failed[after : after + 2]), after + 2 if goes_on else None

    def latest(self, limit: int, since: float) -> list[Event]:
        with self.changed:
            return [one for one in self.happened if one.at >= since][-limit:]

    def follow(self) -> Callable[[], list[Event]]:
        seen = len(self.happened)

        def news() -> list[Event]:
            nonlocal seen
            with self.changed:
                new, seen = self.happened[seen:], len(self.happened)
                return new

        return news

    def happens(self, *some: Event) -> None:
        with self.changed:
            self.happened += some
            self._change()

    def pause(self, route: str | None) -> list[str]:
        with self.changed:
            paused = [route] if route is not None else self.routes
            self.paused |= set(paused)
            return paused

    def in_flight(self, routes: Sequence[str]) -> int:
        with self.changed:
            return self.flying

    def resume(self, route: str | None) -> list[str]:
        with self.changed:
            going_on = set(self.paused) if route is None else self.paused & {route}
            self.paused -= going_on
            return sorted(going_on)

    def rescan(self, route: str | None) -> list[str]:
        if route == "archive":
            raise UsageError("archive is a download: it has no directory that is scanned")
        return [route or "scope3"]

    def status(self) -> Status:
        with self.changed:
            if self.failure is not None:
                raise self.failure
            return self.now

    def metrics(self) -> str:
        return "# TYPE kfd_queue_records gauge\nkfd_queue_records 812.0\n"

    def backup(self, descriptor: int, gone: Callable[[], bool]) -> int:
        if self.failure is not None:
            raise self.failure
        return os.pwrite(descriptor, b"a ledger", 0)

    def wait_for_change(self, seen: int, timeout: float) -> int:
        with self.changed:
            self.changed.wait_for(lambda: self.changes > seen, timeout)
            return self.changes

    def begin_drain(self) -> None:
        self.draining = True

    def drain_progress(self, *, paused: bool = False) -> DrainProgress:
        with self.changed:
            return self.left

    def request_stop(self) -> None:
        self.stopped.set()

    def reload(self) -> ReloadReply:
        with self.changed:
            if self.failure is not None:
                raise self.failure
            return ReloadReply("/etc/kfd/kfd.yaml", ["uploads.xrd1"], [], [], [], ["queue.size"])

    def examine(self) -> Iterator[Check]:
        yield from self.checks

    def acls(self) -> AclsReply:
        grant = Grant(Resource.TOPIC, "lecroy_files", ["Write", "Describe"], "uploads.scope3")
        return AclsReply("User:kfd", "k:9092", [grant])


def _refused(path: str, size: int) -> Sent:
    code = int(path[4]) if path.startswith("bad-") else 1
    return Sent(
        *(None, "", "", path, size),
        refused="no route takes it",
        fix="--route R",
        exit_code=code,
    )


def event(tid: str, **fields: object) -> Event:
    base = Event(
        at=NOON,
        state=State.QUEUED,
        direction=Direction.UPLOAD,
        tid=tid,
        route="scope3",
        topic="lecroy_files",
        path="run42.trc",
        path_base64=None,
        size=2048,
        reason="",
    )
    return replace(base, **fields)


def details(**fields: object) -> Details:
    base = Details(
        generation=1_715_940_000_000_000,
        mtime=NOON,
        mode=0o640,
        meta={"run": "42"},
        digest="ab" * 32,
        source="/srv/scope3/run42.trc",
        name=None,
        user="anna",
        topic_id="t1",
        partition=3,
        first_offset=17,
        chunk_size=1024,
        begun_at=NOON + 1,
        in_kafka_at=NOON + 2,
        resend_at=None,
        tries=1,
        receivers=["lab1", "lab2"],
        predecessor="cd" * 16,
    )
    return replace(base, **fields)


def transfer(tid: str, **fields: object) -> Transfer:
    base = Transfer(
        tid=tid,
        direction=Direction.UPLOAD,
        route="scope3",
        topic="lecroy_files",
        origin="scope3",
        path="run42.trc",
        path_base64=None,
        size=1000,
        state=State.SENDING,
        done=0,
        reason="",
        fix="",
        queued_at=time.time(),
        ended_at=None,
        successor=None,
    )
    return replace(base, **fields)


def quarantined(tid: str, **fields: object) -> Quarantined:
    base = Quarantined(
        *(tid, "archive", "lecroy_files", "scope3", "run42.trc", None, 2048),
        *("its name can't be used here: Not a directory", NOON, True, ""),
    )
    return replace(base, **fields)


def status(**fields: object) -> Status:
    base = Status(
        version=VERSION,
        origin="scope3",
        pid=os.getpid(),
        started_at=time.time() - 3 * 86400 - 4 * 3600 - 60,
        state=DaemonState.RUNNING,
        brokers_up=3,
        brokers_known=3,
        producer_threads=5,
        consumer_threads=5,
        queue_records=812,
        queue_records_max=3000,
        queue_bytes=1 << 20,
        queue_bytes_max=64 << 20,
        quarantine=0,
        quarantine_used=0,
        quarantine_max=10 << 30,
        disk_free=81 << 30,
        spool_used=0,
        spool_max=20 << 30,
        uploads=(),
        downloads=(),
        problems=(),
    )
    return replace(base, **fields)


def busy_status() -> Status:
    """The example of the manual: two upload routes, a download route and a problem."""
    upload = UploadRoute(
        *("scope3", "lecroy_files", "/srv/scope3", True),
        *(2, 1, 4, 1204, 0, 0, 42e6, "run42.trc", NOON, {}),
    )
    unmounted = replace(upload, route="xrd1", queued=0, sending=0, in_kafka=0, delivered=310)
    download = DownloadRoute(
        "archive", "lecroy_files", "/data/lab", 1, 1514, 88120, {"foreign": 3, "malformed": 0}, 0,
        0, 0.0, "xrd1/a7.raw", NOON,
    )  # fmt: skip
    problem = Problem("xrd1", "/srv/instruments/xrd1 not mounted", "mount it", NOON)
    return status(
        state=DaemonState.DEGRADED,
        uploads=(upload, replace(unmounted, bytes_per_second=0.0, last=None, last_at=None)),
        downloads=(download,),
        problems=(problem,),
    )


@contextmanager
def serving(
    path: Path, operations: MemoryOperations, group: str | None = None
) -> Iterator[ControlServer]:
    """A control server at ``path``, ended with the block; a stage that died fails the test."""
    deaths: list[BaseException] = []
    families = [family.name for family in fields(Operations)]
    all_of_them = Operations(**dict.fromkeys(families, operations))  # type: ignore[arg-type]
    server = ControlServer(path, group, all_of_them, VERSION)
    server.listen()
    server.start(lambda _, error: deaths.append(error))
    try:
        yield server
    finally:
        server.stop()
        ended = server.join(10.0)
    assert not deaths
    assert ended
