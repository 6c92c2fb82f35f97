"""The sending half of the daemon: everything between a settled file and ``in_kafka``."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from kfd.config import Config, Upload
from kfd.daemon.budget import Budget
from kfd.daemon.deliveries import Deliveries
from kfd.daemon.feed import Feed
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, outgoing
from kfd.daemon.ledger.outgoing import Accepted, Offer
from kfd.daemon.producer import ProducerThread, RecordSink, classify
from kfd.daemon.rates import Rates
from kfd.daemon.resume import SETTLE_SECONDS, Resumption, version_now
from kfd.daemon.sending import GONE, Sending
from kfd.daemon.stage import DeathHandler, Stage
from kfd.daemon.topics import TopicWatch
from kfd.daemon.watcher import Watcher
from kfd.kafka import ClusterView
from kfd.selection import Selection

log = logging.getLogger(__name__)


class Uploads:
    """Owns the watchers, the feed, the producer pool and the deliveries stage."""

    def __init__(
        self,
        config: Config,
        properties: Mapping[str, str],
        ledger: Ledger,
        cluster: ClusterView,
        topics: TopicWatch,
        health: Health,
        rates: Rates,
        stop_seconds: float,
    ) -> None:
        self.routes = config.uploads
        self.threads = config.pools.producer_threads
        self.budget = Budget(config.queue.messages, config.queue.size)
        self._chunk_size = config.chunk_size
        self._ledger = ledger
        self._topics = topics
        self._sink = RecordSink(
            properties, self.budget, config.chunk_size, health, topics.look_soon
        )
        self._feed = Feed(
            ledger,
            topics,
            Resumption(ledger, topics, cluster, self._sink.abort),
            chunk_size=config.chunk_size,
            threads=config.pools.producer_threads,
            turn_bytes=config.queue.size // 8,
        )
        self._deliveries = Deliveries(
            ledger, self.budget, health, rates,
            classify=classify, on_changed=self._file_changed, stop_seconds=stop_seconds,
        )  # fmt: skip
        self._deliveries.connect(self._sink, self._feed)
        self._producers = [
            ProducerThread(
                number, self._feed, self._sink, self.budget,
                on_delivery=self._deliveries.on_delivery, leave=self._deliveries.leave,
            )
            for number in range(1, config.pools.producer_threads + 1)
        ]  # fmt: skip
        self.watchers = {
            name: self._watcher(route, health) for name, route in config.uploads.items()
        }
        self._born_ns = {
            name: _born_ns(ledger, name) if route.existing == "skip" else 0
            for name, route in config.uploads.items()
        }
        for name, route in config.uploads.items():
            topics.want(route.topic, name, chunk_size=config.chunk_size)
            self._feed.add_lane(name, route.topic, route.rate_limit)
        topics.call_on_change(self._feed.topics_changed)

    def stages(self) -> list[Stage]:
        """The stages that must never hang. (A watcher hangs with the share that it watches.)"""
        return [self._deliveries, self._feed, *self._producers]

    def start(self, on_death: DeathHandler) -> None:
        """Start every stage, watchers last."""
        for stage in (*self.stages(), *self.watchers.values()):
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
        for watcher in self.watchers.values():
            watcher.join(deadline - time.monotonic())
        self._feed.stop()
        self._feed.join(deadline - time.monotonic())
        self.budget.close()
        for producer in self._producers:
            producer.stop()
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
        if not route:
            self._topics.want(topic, topic, chunk_size=self._chunk_size)
            self._feed.add_lane(route, topic)
        offer = Offer(route, topic, versions, self._chunk_size, meta, uid, again)
        accepted = self._ledger.write(lambda db: outgoing.accept(db, offer))
        self._feed.accepted(route, topic)
        return accepted

    # FileSink, for the watchers

    def settled(self, route: str, versions: Sequence[FileVersion]) -> None:
        """Files that a watcher found and saw settle."""
        topic = self.routes[route].topic
        offer = Offer(
            route, topic, versions, self._chunk_size, {}, skip_older_ns=self._born_ns[route]
        )
        self._ledger.write_patiently(lambda db: outgoing.accept(db, offer))
        self._feed.accepted(route, topic)

    def unknown(self, route: str, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Those of ``versions`` that the ledger doesn't know as they are."""
        topic = self.routes[route].topic
        return outgoing.unknown(self._ledger.reader(), route, topic, versions)

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

    def _file_changed(self, sending: Sending) -> None:
        """A file changed or went while it was read: its next version is to be sent.

        Called by the deliveries stage, once the ledger has the end of ``sending``.
        """
        row = sending.row
        watcher = self.watchers.get(row.route)
        if watcher is not None and row.uid is None:
            watcher.look_again(row.path)
            return
        version = version_now(row)
        if version is None or sending.failure is GONE:
            return  # it is gone for good, and its transfer says so
        due = time.time() + SETTLE_SECONDS
        reason = sending.failure.reason if sending.failure else ""
        self._ledger.write_patiently(lambda db: outgoing.start_over(db, row, reason, version, due))
        self._feed.accepted(row.route, row.topic)


def _born_ns(ledger: Ledger, route: str) -> int:
    """When a route was first started (ns since the epoch)."""
    return ledger.write(lambda db: outgoing.born_ns(db, route))
