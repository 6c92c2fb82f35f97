"""What the daemon answers at its control socket: :class:`Operations` over its parts."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import kfd
from kfd import control
from kfd.assembly import OpenTransfer
from kfd.control import DaemonState, Direction, Sent, State, Status, Transfer
from kfd.daemon.admission import Admission
from kfd.daemon.context import Context
from kfd.daemon.downloads import DownloadRoute, Downloads
from kfd.daemon.ledger import delivery, incoming, queries
from kfd.daemon.ledger.queries import Tally
from kfd.daemon.operations import DrainProgress, SendRequest
from kfd.daemon.uploads import Uploads
from kfd.errors import KfdError
from kfd.paths import escape, to_json
from kfd.wire import Reason

Tallies = dict[tuple[str, str], dict[str, Tally]]


class Answers:
    """Answers in the control server's threads; changes nothing but through the parts' own means."""

    def __init__(
        self,
        context: Context,
        uploads: Uploads,
        downloads: Downloads,
        state_directory: Path,
        request_stop: Callable[[], None],
    ) -> None:
        self._ledger = context.ledger
        self._topics = context.topics
        self._health = context.health
        self._rates = context.rates
        self._uploads = uploads
        self._downloads = downloads
        self._state_directory = state_directory
        self._request_stop = request_stop
        self._admission = Admission(uploads, context.topics, context.ledger)
        self._started_at = time.time()
        self._draining = False

    def send(self, request: SendRequest) -> list[Sent]:
        if self._draining:
            raise KfdError("kfd is finishing its work and takes no new files", fix="start it again")
        return self._admission.send(request)

    def transfers(self, tids: Sequence[str]) -> list[Transfer]:
        reader = self._ledger.reader()
        return [queries.find(reader, self._ledger.origin, tid) for tid in tids]

    def list_transfers(self, state: str | None, route: str | None, limit: int) -> list[Transfer]:
        wanted = State(state) if state is not None else None
        open_ones = self._receiving(route) if wanted in (None, State.RECEIVING) else []
        stored = queries.newest(self._ledger.reader(), self._ledger.origin, wanted, route, limit)
        shown = {
            (one.route, one.tid) for one in open_ones
        }  # some of these are just being published
        return (open_ones + [t for t in stored if (t.route, t.tid) not in shown])[:limit]

    def status(self) -> Status:
        sent: Tallies = defaultdict(dict)
        received: Tallies = defaultdict(dict)
        for tally in queries.tallies(self._ledger.reader()):
            side = sent if tally.direction == Direction.UPLOAD else received
            side[tally.route, tally.topic][tally.state] = tally
        uploads = self._upload_routes(sent)
        downloads = [self._download_route(r, received) for r in self._downloads.routes.values()]
        problems = self._health.problems()
        records, size = self._uploads.budget.used()
        return Status(
            version=kfd.__version__,
            origin=self._ledger.origin,
            pid=os.getpid(),
            started_at=self._started_at,
            state=self._state(degraded=self._health.degraded),
            brokers_up=self._topics.brokers_up,
            brokers_known=self._topics.brokers_known,
            producer_threads=self._uploads.threads,
            consumer_threads=len(self._downloads.consumers()),
            queue_records=records,
            queue_records_max=self._uploads.budget.max_records,
            queue_bytes=size,
            queue_bytes_max=self._uploads.budget.max_size,
            quarantine=sum(route.quarantined for route in downloads),
            disk_free=self._disk_free(),
            uploads=uploads,
            downloads=downloads,
            problems=problems,
        )

    def wait_for_change(self, seen: int, timeout: float) -> int:
        return self._ledger.wait_for_change(seen, timeout)

    def begin_drain(self) -> None:
        self._draining = True
        self._uploads.stop_watching()

    def drain_progress(self) -> DrainProgress:
        waiting = [
            tally
            for tally in queries.tallies(self._ledger.reader())
            if tally.state in (State.QUEUED, State.SENDING)
        ]
        return DrainProgress(
            sum(tally.count for tally in waiting), sum(tally.size for tally in waiting)
        )

    def request_stop(self) -> None:
        self._request_stop()

    def _state(self, *, degraded: bool) -> DaemonState:
        if self._draining:
            return DaemonState.DRAINING
        return DaemonState.DEGRADED if degraded else DaemonState.RUNNING

    def _upload_routes(self, sent: Tallies) -> list[control.UploadRoute]:
        """The configured routes, then what was sent without one, or by one that is gone."""
        bad = delivery.bad_counts(self._ledger.reader())
        routes: dict[tuple[str, str], tuple[str | None, bool]] = {
            (name, route.topic): (str(route.directory), route.send)
            for name, route in self._uploads.routes.items()
        }
        for name, topic in sent:
            routes.setdefault((name, topic), (None, not name))
        return [
            self._upload_route(*key, directory, send, sent.get(key, {}), bad.get(key[1], {}))
            for key, (directory, send) in routes.items()
        ]

    def _upload_route(
        self,
        name: str,
        topic: str,
        directory: str | None,
        send: bool,
        tallies: dict[str, Tally],
        bad: dict[str, int],
    ) -> control.UploadRoute:
        last, last_at = _last(tallies.get(State.IN_KAFKA))
        return control.UploadRoute(
            route=name,
            topic=topic,
            directory=directory,
            send=send,
            queued=_count(tallies, State.QUEUED),
            sending=_count(tallies, State.SENDING),
            in_kafka=_count(tallies, State.IN_KAFKA),
            delivered=_count(tallies, State.DELIVERED),
            failed=_count(tallies, State.FAILED),
            cancelled=_count(tallies, State.CANCELLED),
            bytes_per_second=self._rates.rate(name, topic),
            last=last,
            last_at=last_at,
            bad=bad,
        )

    def _download_route(self, route: DownloadRoute, received: Tallies) -> control.DownloadRoute:
        config, consumers = route.config, route.consumers
        tallies = received.get((config.name, config.topic), {})
        last, last_at = _last(tallies.get(State.PUBLISHED))
        lags = [lag for one in consumers if (lag := one.lag()) is not None]
        bad = incoming.bad_counts(self._ledger.reader(), config.name)
        bad.pop(Reason.DUPLICATE, None)  # what a restart repeats is no fault of anybody
        return control.DownloadRoute(
            route=config.name,
            topic=config.topic,
            directory=str(config.directory),
            receiving=sum(len(one.receiving) for one in consumers),
            published=_count(tallies, State.PUBLISHED),
            records=sum(one.records for one in consumers),
            bad=bad,
            quarantined=_count(tallies, State.QUARANTINED),
            lag=sum(lags) if lags else None,
            bytes_per_second=self._rates.rate(config.name, config.topic),
            last=last,
            last_at=last_at,
        )

    def _receiving(self, route: str | None) -> list[Transfer]:
        return [
            _open_transfer(name, one)
            for name, download in self._downloads.routes.items()
            if route in (None, name)
            for consumer in download.consumers
            for one in consumer.receiving
        ]

    def _disk_free(self) -> int | None:
        """Bytes on the fullest of the disks that kfd writes to."""
        try:
            free = [shutil.disk_usage(self._state_directory).free]
            free += [route.destination.free() for route in self._downloads.routes.values()]
        except OSError:
            return None
        return min(free)


def _count(tallies: dict[str, Tally], state: State) -> int:
    tally = tallies.get(state)
    return tally.count if tally else 0


def _last(tally: Tally | None) -> tuple[str | None, float | None]:
    return (escape(tally.last), tally.last_at) if tally else (None, None)


def _open_transfer(route: str, one: OpenTransfer) -> Transfer:
    begin = one.begin
    text, encoded = to_json(begin.path)
    return Transfer(
        tid=one.tid.hex(),
        direction=Direction.DOWNLOAD,
        route=route,
        topic=begin.topic,
        origin=begin.origin,
        path=text,
        path_base64=encoded,
        size=begin.size,
        state=State.RECEIVING,
        done=one.received,
        reason="",
        fix="",
        queued_at=None,
        ended_at=None,
        successor=None,
    )
