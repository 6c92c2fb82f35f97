"""The sending half of the daemon: everything between a settled file and ``in_kafka``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from kfd.config import Config, Upload
from kfd.daemon.budget import Budget
from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.deliveries import Deliveries
from kfd.daemon.feed import Feed
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, accepting, known, outgoing
from kfd.daemon.ledger.accepting import Accepted, Offer
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.producer import ProducerThread, RecordSink
from kfd.daemon.resume import Resumption
from kfd.daemon.stage import DeathHandler, Stage
from kfd.daemon.watcher import Watcher
from kfd.selection import Selection

log = logging.getLogger(__name__)


WATCHER_STOP_SECONDS = 2.0  # one that hangs on a dead share must not use up the others' time


class Uploads:
    """Owns the watchers, the feed, the producer pool and the deliveries stage."""

    def __init__(self, config: Config, context: Context, stop_seconds: float) -> None:
        """``stop_seconds``: how long a stop may wait for records in flight."""
        self.routes = config.uploads
        self.threads = config.pools.producer_threads
        self.budget = Budget(config.queue.messages, config.queue.size)
        self._chunk_size = config.chunk_size
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
        )
        self._deliveries = Deliveries(
            self._sink,
            self._feed,
            self.budget,
            context,
            watched=self._watched,
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
        self.watchers = {
            name: self._watcher(route, context.health) for name, route in config.uploads.items()
        }
        self._born_ns = {
            name: _born_ns(ledger, name) if route.existing == "skip" else 0
            for name, route in config.uploads.items()
        }
        for name, route in config.uploads.items():
            self._open_lane(name, route.topic, route.rate_limit)
        for name, topic in outgoing.destinations(ledger.reader()):
            self._open_lane(name, topic)  # sent without a route, or by one that is gone
        topics.call_before_sending(self._sink.fit)
        topics.call_on_change(self._feed.topics_changed)

    def stages(self) -> list[Stage]:
        """The stages that must never hang. (Others hang with a share that they read.)"""
        return [self._deliveries, self._feed]

    def start(self, on_death: DeathHandler) -> None:
        """Start every stage, watchers last."""
        for stage in (*self.stages(), *self._producers, *self.watchers.values()):
            stage.start(on_death)

    def wait_until_watching(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until each watcher watches, or knows why it can't."""
        deadline = time.monotonic() + timeout
        for watcher in self.watchers.values():
            watcher.ready.wait(max(0.0, deadline - time.monotonic()))

    def stop_watching(self) -> None:
        """Take no new files. Returns at once."""
        for watcher in self.watchers.values():
            watcher.stop()

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
        """Queue files that somebody asked for. Durable when this returns. Any thread.

        Raises :class:`LedgerError`.
        """
        self._open_lane(route, topic)
        offer = Offer(route, topic, versions, self._chunk_size, meta, uid, again)
        accepted = self._ledger.write(lambda db: accepting.accept(db, offer))
        reach("sender.accepted-offer")
        self._feed.accepted(route, topic)
        return accepted

    def identity_of(self, route: str) -> Callable[[], tuple[int, int] | None]:
        """Tells device and inode of the directory that a route watches now, None while it can't."""
        watcher = self.watchers[route]
        return lambda: watcher.identity

    def requeued(self, route: str, topic: str) -> None:
        """Something that had been sent was queued again in the ledger. Any thread."""
        self._open_lane(route, topic)
        self._feed.accepted(route, topic)

    # FileSink, for the watchers

    def settled(self, route: str, versions: Sequence[FileVersion]) -> None:
        """Files that a watcher found and saw settle."""
        topic = self.routes[route].topic
        offer = Offer(
            route, topic, versions, self._chunk_size, {}, skip_older_ns=self._born_ns[route]
        )
        self._ledger.write_patiently(lambda db: accepting.accept(db, offer))
        reach("sender.accepted-file")
        self._feed.accepted(route, topic)

    def unknown(self, route: str, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Those of ``versions`` that the ledger doesn't know as they are."""
        topic = self.routes[route].topic
        return known.unknown(self._ledger.reader(), route, topic, versions)

    def _open_lane(self, route: str, topic: str, rate: float | None = None) -> None:
        self._topics.want_to_send(topic, route or topic, self._chunk_size)
        self._feed.add_lane(route, topic, rate)

    def _watcher(self, route: Upload, health: Health) -> Watcher:
        return Watcher(
            route.name,
            route.directory,
            Selection(route.include, route.exclude),
            self,
            health,
            watch=route.watch,
            poll_every=route.poll_every,
            settle=route.settle,
        )

    def _watched(self, row: Outgoing) -> bool:
        """Whether a watcher finds the next version of this file. What people sent has nobody."""
        return row.uid is None and row.route in self.watchers

    def _look_again(self, row: Outgoing) -> None:
        if self._watched(row):
            self.watchers[row.route].look_again(row.path)


def _born_ns(ledger: Ledger, route: str) -> int:
    """When a route was first started (ns since the epoch)."""
    return ledger.write(lambda db: accepting.born_ns(db, route))
