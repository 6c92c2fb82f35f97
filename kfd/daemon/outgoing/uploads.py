"""The sending half of the daemon: everything between a settled file and ``in_kafka``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from kfd.config import Config, Upload
from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, accepting, outgoing
from kfd.daemon.ledger.accepting import Accepted, Offer
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.outgoing.budget import Budget
from kfd.daemon.outgoing.deliveries import Deliveries
from kfd.daemon.outgoing.feed import Feed
from kfd.daemon.outgoing.findings import Findings, log_queued
from kfd.daemon.outgoing.interventions import Interventions
from kfd.daemon.outgoing.producer import ProducerThread, RecordSink
from kfd.daemon.outgoing.resume import Resumption
from kfd.daemon.stage import DeathHandler, Stage
from kfd.daemon.watcher import Watcher
from kfd.errors import KfdError
from kfd.selection import Selection
from kfd.wire import check_meta

log = logging.getLogger(__name__)


WATCHER_STOP_SECONDS = 2.0  # one that hangs on a dead share must not use up the others' time

# What a route may change while its watcher goes on.
_IN_PLACE = {"then", "receivers", "rate_limit", "send"}
_PROBLEMS = ("directory", "watch", "names", "unreadable", "sending", "then")  # keys of a route's


@dataclass(frozen=True, slots=True)
class Watched:
    """A watcher and where its files go."""

    watcher: Watcher
    findings: Findings


@dataclass(frozen=True, slots=True)
class ComingUploads:
    """The routes that are to be, and the new watchers that they need, not yet started."""

    routes: Mapping[str, Upload]
    watched: Mapping[str, Watched]
    chunk_size: int


class Uploads:
    """Owns the watchers, the feed, the producer pool and the deliveries stage.

    ``routes`` is replaced as a whole, never changed: others look names up in what they find.
    """

    def __init__(self, config: Config, context: Context, stop_seconds: float) -> None:
        """The routes come with :meth:`prepare` and :meth:`take`. ``stop_seconds``: how long a stop
        may wait for records in flight."""
        self.routes: Mapping[str, Upload] = {}
        self.threads = config.pools.producer_threads
        self.budget = Budget(config.queue.messages, config.queue.size)
        self._chunk_size = config.chunk_size
        self._health = context.health
        self._ledger = ledger = context.ledger
        self._topics = topics = context.topics
        self._sink = RecordSink(
            context.properties, self.budget, config.chunk_size, context.health, topics.look_soon
        )
        self._feed = Feed(
            ledger,
            topics,
            Resumption(ledger, topics, context.cluster, self._sink.abort),
            chunk_size=config.chunk_size,
            threads=config.pools.producer_threads,
            queue_size=config.queue.size,
            paused=context.pauses,
        )
        self._deliveries = Deliveries(
            self._sink,
            self._feed,
            self.budget,
            context,
            watched=self._is_watched,
            look_again=self._look_again,
            stop_seconds=stop_seconds,
        )
        self._producers = [
            ProducerThread(
                *(number, self._feed, self._sink, self.budget),
                on_delivery=self._deliveries.on_delivery,
                leave=self._deliveries.leave,
            )
            for number in range(1, config.pools.producer_threads + 1)
        ]
        self._interventions = Interventions(ledger, self._feed, topics, self._sink, self.requeued)
        self._lock = threading.Lock()  # guards _watched and _watching against a stop meanwhile
        self._watched: Mapping[str, Watched] = {}  # replaced as a whole, too
        self._watching = True  # false: no new files are taken any more
        self._leaving: list[tuple[str, Watcher]] = []  # stopped, not ended: a share hangs
        for name, topic in outgoing.destinations(ledger.reader()):
            self._open_lane(name, topic)  # sent without a route, or by one that is gone
        topics.call_before_sending(self._sink.fit)
        topics.call_on_change(self._feed.topics_changed)

    @property
    def watchers(self) -> Mapping[str, Watcher]:
        """By route. Any thread."""
        return {name: one.watcher for name, one in self._watched.items()}

    @property
    def watching(self) -> bool:
        """Whether new files are taken. Any thread."""
        return self._watching

    def stages(self) -> list[Stage]:
        """The stages that must never hang. (Others hang with a share that they read.)"""
        return [self._deliveries, self._feed]

    def start(self, on_death: DeathHandler) -> None:
        """Start what sends. Watchers are started by :meth:`take`."""
        for stage in (*self.stages(), *self._producers):
            stage.start(on_death)

    # Routes come, change and go

    def prepare(self, config: Config) -> ComingUploads:
        """Make ready for the routes of ``config``, changing nothing yet.

        Raises :class:`LedgerError`.
        """
        watched = {
            name: self._new_watch(route, config.chunk_size)
            for name, route in config.uploads.items()
            if name not in self._watched or not _same_watch(self.routes.get(name), route)
        }
        return ComingUploads(config.uploads, watched, config.chunk_size)

    def retire(self, coming: ComingUploads) -> None:
        """Stop the watchers that won't go on. What they have queued is sent all the same."""
        going = {
            name: one
            for name, one in self._watched.items()
            if name not in coming.routes or name in coming.watched
        }
        with self._lock:
            self._watched = {n: one for n, one in self._watched.items() if n not in going}
        for one in going.values():
            one.findings.closed = True
            one.watcher.stop()
        patience = time.monotonic() + WATCHER_STOP_SECONDS
        for name, one in going.items():
            if not one.watcher.join(patience - time.monotonic()):
                log.warning("%s did not end in time", one.watcher.name)
                self._leaving.append((name, one.watcher))

    def take(self, coming: ComingUploads, on_death: DeathHandler) -> None:
        """Let the routes be those of ``coming``, after :meth:`retire`; start their watchers."""
        before, self.routes = self.routes, coming.routes
        self._set_chunk_size(coming.chunk_size)
        for name, route in coming.routes.items():
            self._open_lane(name, route.topic, route.rate_limit)
            self._feed.limit(name, route.topic, route.rate_limit)
        for name, old in before.items():
            if name not in coming.routes or coming.routes[name].topic != old.topic:
                self._leave_topic(old)
            if name not in coming.routes:
                self._forget_problems(name)
        with self._lock:
            self._watched = {**self._watched, **coming.watched}
            if self._watching:
                for one in coming.watched.values():
                    one.watcher.start(on_death)

    def tidy(self) -> None:
        """Forget what watchers said that ended late, of routes that are gone."""
        for name, watcher in self._leaving.copy():
            if not watcher.alive:
                self._leaving.remove((name, watcher))
                if name not in self.routes:
                    self._forget_problems(name)

    def wait_until_watching(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until each watcher watches, or knows why it can't."""
        deadline = time.monotonic() + timeout
        for watcher in self.watchers.values():
            watcher.ready.wait(max(0.0, deadline - time.monotonic()))

    def stop_watching(self) -> None:
        """Take no new files. Returns at once."""
        with self._lock:
            self._watching = False
            watched = self._watched
        for one in watched.values():
            one.watcher.stop()

    def stop(self, deadline: float) -> None:
        """End every stage in the order of the data's way, by ``deadline`` (monotonic)."""
        self.stop_watching()
        patience = time.monotonic() + WATCHER_STOP_SECONDS
        for watcher in self.watchers.values():
            watcher.join(min(patience, deadline) - time.monotonic())
        for stage in (*self._producers, self._feed):
            stage.stop()
        self.budget.close()
        self._feed.join(deadline - time.monotonic())
        for producer in self._producers:
            producer.join(deadline - time.monotonic())
        self._deliveries.stop()
        self._deliveries.join(deadline - time.monotonic())

    def accept(
        self,
        route: str,
        topic: str,
        versions: Sequence[FileVersion],
        *,
        meta: Mapping[str, str],
        uid: int,
        again: bool,
    ) -> list[Accepted]:
        """Queue files that somebody asked for; ``meta`` stands above that of the route. Durable
        when this returns. Any thread.

        Raises :class:`LedgerError`, and :class:`KfdError` for more metadata than a file can have.
        """
        meta = self._with_constants(route, meta)
        self._open_lane(route, topic)
        offer = Offer(
            *(route, topic, versions, self._chunk_size, meta, uid, again),
            format=self._format_of(route),
        )
        accepted = self._ledger.write(lambda db: accepting.accept(db, offer))
        reach("sender.accepted-offer")
        log_queued(offer, accepted)
        self._feed.accepted(route, topic)
        return accepted

    def _format_of(self, route: str, otherwise: str = "kfd") -> str:
        """In which a route sends; ``otherwise``: where there is none."""
        own = self.routes.get(route)
        return otherwise if own is None else own.format

    def _with_constants(self, route: str, meta: Mapping[str, str]) -> Mapping[str, str]:
        own = self.routes.get(route)
        if own is None or not own.meta:
            return meta
        together = {**own.meta, **meta}
        try:
            check_meta(together)
        except ValueError as error:
            raise KfdError(f"with that of route {route}, {error}", fix="give less --meta") from None
        return together

    def identity_of(self, route: str) -> Callable[[], tuple[int, int] | None]:
        """Tells device and inode of the directory that a route watches now, None while it can't."""

        def identity() -> tuple[int, int] | None:
            one = self._watched.get(route)
            return None if one is None else one.watcher.identity

        return identity

    def requeued(self, route: str, topic: str) -> None:
        """Something that had been sent was queued again in the ledger. Any thread."""
        self._open_lane(route, topic)
        self._feed.accepted(route, topic)

    # What people do to transfers and routes. Any thread.

    def cancel(self, number: int, reason: str) -> None:
        """As :meth:`Interventions.cancel`."""
        self._interventions.cancel(number, reason)

    def put_aside(self, number: int, reason: str) -> None:
        """As :meth:`Interventions.put_aside`."""
        self._interventions.put_aside(number, reason)

    def retry(self, rows: Sequence[Outgoing]) -> dict[int, str]:
        """As :meth:`Interventions.retry`; in the format that the route has now."""
        for row in rows:
            row.format = self._format_of(row.route, row.format)
        return self._interventions.retry(rows, self._chunk_size)

    def resumed(self) -> None:
        """Routes that were paused go on."""
        self._feed.resumed()

    def in_flight(self, routes: Container[str]) -> int:
        """How many files of these routes have records on their way."""
        return self._feed.in_flight(routes)

    def _open_lane(self, route: str, topic: str, rate: float | None = None) -> None:
        self._topics.want_to_send(topic, route or topic, self._chunk_size)
        self._feed.add_lane(route, topic, rate)

    def _leave_topic(self, route: Upload) -> None:
        """The route sends there no more, but for what it has queued."""
        self._topics.retract(route.topic, route.name, sending=True)
        if (route.name, route.topic) in outgoing.destinations(self._ledger.reader()):
            self._open_lane(route.name, route.topic)

    def _forget_problems(self, route: str) -> None:
        for key in _PROBLEMS:
            self._health.clear(route, key)

    def _set_chunk_size(self, chunk_size: int) -> None:
        """Of files that are queued or begun from now on; those under way keep theirs."""
        if chunk_size != self._chunk_size:
            self._chunk_size = chunk_size
            self._sink.allow(chunk_size)
            self._feed.chunk_size = chunk_size
            self._topics.resize(chunk_size)
            for one in self._watched.values():
                one.findings.chunk_size = chunk_size

    def _new_watch(self, route: Upload, chunk_size: int) -> Watched:
        born_ns = _born_ns(self._ledger, route.name) if route.existing == "skip" else 0
        findings = Findings(route, self._ledger, self._feed, chunk_size=chunk_size, born_ns=born_ns)
        watcher = Watcher(
            route.name,
            route.directory,
            Selection(route.include, route.exclude),
            findings,
            self._health,
            watch=route.watch,
            poll_every=route.poll_every,
            settle=route.settle,
        )
        return Watched(watcher, findings)

    def _is_watched(self, row: Outgoing) -> bool:
        """Whether a watcher finds the next version of this file. What people sent has nobody."""
        return row.uid is None and row.route in self._watched

    def _look_again(self, row: Outgoing) -> None:
        one = self._watched.get(row.route)
        if one is not None and row.uid is None:
            one.watcher.look_again(row.path)


def _same_watch(old: Upload | None, new: Upload) -> bool:
    """Whether the watcher of ``old`` finds what that of ``new`` would."""
    return old is not None and old.model_dump(exclude=_IN_PLACE) == new.model_dump(
        exclude=_IN_PLACE
    )


def _born_ns(ledger: Ledger, route: str) -> int:
    """When a route was first started (ns since the epoch)."""
    return ledger.write(lambda db: accepting.born_ns(db, route))
