"""The status: what the daemon and each of its routes do now, and what is wrong."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import kfd
from kfd import control
from kfd.control import Direction, State, Status
from kfd.daemon.admission.spool import Spool
from kfd.daemon.answers.catalogue import standings
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.context import Context
from kfd.daemon.incoming.downloads import DownloadRoute, Downloads
from kfd.daemon.ledger import dropped, quarantine, queries, receiptreading
from kfd.daemon.ledger.queries import Tally
from kfd.daemon.outgoing.uploads import Uploads
from kfd.paths import escape
from kfd.wire import Reason

Tallies = dict[tuple[str, str], dict[str, Tally]]


class StatusReport:
    """Takes snapshots. Called in the control server's threads."""

    def __init__(
        self,
        context: Context,
        uploads: Uploads,
        downloads: Downloads,
        spool: Spool,
        catalogues: Catalogues,
        state_directory: Path,
    ) -> None:
        self._ledger = context.ledger
        self._topics = context.topics
        self._health = context.health
        self._rates = context.rates
        self._life = context.life
        self._pauses = context.pauses
        self._uploads = uploads
        self._downloads = downloads
        self._spool = spool
        self._catalogues = catalogues
        self._state_directory = state_directory
        self._started_at = time.time()

    def take(self) -> Status:
        """A snapshot."""
        return self.made_of(queries.tallies(self._ledger.reader()))

    def made_of(self, tallies: Iterable[Tally]) -> Status:
        """A snapshot with these counts of transfers."""
        sent: Tallies = defaultdict(dict)
        received: Tallies = defaultdict(dict)
        for tally in tallies:
            side = sent if tally.direction == Direction.UPLOAD else received
            side[tally.route, tally.topic][tally.state] = tally
        uploads = self._upload_routes(sent)
        held = quarantine.counts(self._ledger.reader())
        downloads = [
            self._download_route(route, received, held.get(name, 0))
            for name, route in self._downloads.routes.items()
        ]
        problems = self._health.problems()
        records, size = self._uploads.budget.used()
        return Status(
            version=kfd.__version__,
            origin=self._ledger.origin,
            pid=os.getpid(),
            started_at=self._started_at,
            state=self._life.state(degraded=self._health.degraded),
            brokers_up=self._topics.brokers_up,
            brokers_known=self._topics.brokers_known,
            producer_threads=self._uploads.threads,
            consumer_threads=len(self._downloads.consumers()),
            queue_records=records,
            queue_records_max=self._uploads.budget.max_records,
            queue_bytes=size,
            queue_bytes_max=self._uploads.budget.max_size,
            quarantine=sum(held.values()),
            quarantine_used=quarantine.used(self._ledger.reader()),
            quarantine_max=self._downloads.quarantine.size,
            disk_free=self._disk_free(),
            spool_used=self._spool.used,
            spool_max=self._spool.limit,
            uploads=uploads,
            downloads=downloads,
            problems=problems,
            catalogues=standings(self._ledger, self._catalogues),
        )

    def _upload_routes(self, sent: Tallies) -> list[control.UploadRoute]:
        """The configured routes, then what was sent without one, or by one that is gone."""
        bad = receiptreading.bad_counts(self._ledger.reader())
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
            paused_since=self._pauses.since(name),
        )

    def _download_route(
        self, route: DownloadRoute, received: Tallies, quarantined: int
    ) -> control.DownloadRoute:
        config, consumers = route.config, route.consumers
        tallies = received.get((config.name, config.topic), {})
        last, last_at = _last(tallies.get(State.PUBLISHED))
        lags = [lag for one in consumers if (lag := one.lag()) is not None]
        bad = dropped.bad_counts(self._ledger.reader(), config.name)
        bad.pop(Reason.DUPLICATE, None)  # what a restart repeats is no fault of anybody
        return control.DownloadRoute(
            route=config.name,
            topic=config.topic,
            directory=str(config.directory),
            receiving=sum(len(one.receiving) for one in consumers),
            published=_count(tallies, State.PUBLISHED),
            records=sum(one.records for one in consumers),
            bad=bad,
            quarantined=quarantined,
            lag=sum(lags) if lags else None,
            bytes_per_second=self._rates.rate(config.name, config.topic),
            last=last,
            last_at=last_at,
            paused_since=self._pauses.since(config.name),
        )

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
