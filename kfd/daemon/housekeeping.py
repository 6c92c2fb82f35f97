"""The housekeeper: forgets, once an hour, what the ledger need not know any longer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial

from kfd.daemon.context import Context
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.ledger import catalogue, forgetting, known, outgoing
from kfd.daemon.outgoing.uploads import Uploads
from kfd.daemon.publishing.partials import abandoned
from kfd.daemon.stage import Stage
from kfd.errors import KfdError
from kfd.kafka import Topic

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
PAGE = 1000  # rows of one transaction, so that others needn't wait


class Housekeeper(Stage):
    """Named ``housekeeping``.

    Transfers that ended longer than ``history`` ago go; of those received, only what Kafka can't
    show again. Files that are no longer there need not be known as sent.
    """

    def __init__(
        self, context: Context, uploads: Uploads, downloads: Downloads, history: float
    ) -> None:
        """``history`` is in seconds."""
        super().__init__("housekeeping")
        self._ledger = context.ledger
        self._cluster = context.cluster
        self._topics = context.topics
        self._uploads = uploads
        self._downloads = downloads
        self.history = history  # seconds; may be set by any thread

    def run(self) -> None:
        due = time.monotonic() + EVERY_SECONDS
        while not self.stopping.wait(5.0):
            self.beat()
            if time.monotonic() >= due:
                due = time.monotonic() + EVERY_SECONDS
                self._tidy()

    def _tidy(self) -> None:
        oldest = time.time() - self.history
        try:
            self._repeat(lambda: self._prune_outgoing(oldest))
            self._repeat(lambda: self._prune_catalogue(oldest))
            self._prune_incoming(oldest)
            self._remove_partials()
            for route, topic in known.destinations(self._ledger.reader()):
                self._forget_files(route, topic)
        except KfdError as error:
            log.warning("housekeeping: %s; it is tried again in an hour", error)

    def _repeat(self, step: Callable[[], int]) -> None:
        """Do a step of at most ``PAGE`` rows until it finds less."""
        while not self.stopping.is_set() and step() == PAGE:
            self.beat()

    def _prune_outgoing(self, oldest: float) -> int:
        return self._ledger.write(lambda db: outgoing.prune(db, oldest, PAGE))

    def _prune_catalogue(self, oldest: float) -> int:
        return self._ledger.write(lambda db: catalogue.prune(db, oldest, PAGE))

    def _prune_incoming(self, oldest: float) -> None:
        for name in {route.config.topic for route in self._downloads.routes.values()}:
            topic = self._topics.readable(name)
            if topic is None:
                continue
            self._prune_dead(topic, oldest)
            lows = self._cluster.low_watermarks((name, n) for n in range(topic.partitions))
            for (_, partition), low in lows.items():
                self._repeat(partial(self._prune_partition, topic.topic_id, partition, low, oldest))

    def _prune_dead(self, topic: Topic, oldest: float) -> None:
        """Forget what was received of a topic before it was deleted and made again."""
        for name, route in self._downloads.routes.items():
            if route.config.topic == topic.name:
                reader = self._ledger.reader()
                for dead in forgetting.dead_topics(reader, name, topic.name, topic.topic_id):
                    self._repeat(partial(self._prune_dead_topic, name, dead, oldest))

    def _prune_dead_topic(self, route: str, topic_id: str, oldest: float) -> int:
        return self._ledger.write(
            lambda db: forgetting.prune_dead(db, route, topic_id, oldest, PAGE)
        )

    def _remove_partials(self) -> None:
        """Remove what no consumer has gone on with: other hosts read those partitions now."""
        for name, route in self._downloads.routes.items():
            held = {key for consumer in route.consumers for key in consumer.held}
            try:
                for key in abandoned(route.destination, held, EVERY_SECONDS):
                    route.destination.remove_part(key)
            except OSError as error:
                log.warning("housekeeping: partials of %s: %s", name, error.strerror)

    def _prune_partition(self, topic_id: str, partition: int, low: int, oldest: float) -> int:
        return self._ledger.write(
            lambda db: forgetting.prune(db, topic_id, partition, low, oldest, PAGE)
        )

    def _forget_files(self, route: str, topic: str) -> None:
        """Forget which files of a route were sent that are no longer there."""
        after = b""
        while not self.stopping.is_set():
            self.beat()
            page = known.after(self._ledger.reader(), route, topic, after, PAGE)
            if not page:
                return
            after = page[-1][0]
            gone = [path for path, source in page if _is_gone(source)]
            # looked at after the files: if the share was unmounted meanwhile, nothing is gone
            if not self._is_there(route):
                return
            if gone:
                self._ledger.write(partial(known.forget, route=route, topic=topic, paths=gone))

    def _is_there(self, route: str) -> bool:
        """Whether the directory of a route is the one that is watched. Without one: yes."""
        watcher = self._uploads.watchers.get(route)
        configured = self._uploads.routes.get(route)
        if watcher is None or configured is None:
            return True
        root = os.path.realpath(os.fsencode(configured.directory))
        return _is_still(root, watcher.identity)


def _is_gone(source: bytes) -> bool:
    """Whether a file is surely no longer there; one that can't be looked at may be."""
    try:
        os.lstat(source)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _is_still(root: bytes, identity: tuple[int, int] | None) -> bool:
    """Whether ``root`` is the directory that the watcher watches, and not an empty mount point."""
    try:
        status = os.stat(root)
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError:
        return False
    return identity == (status.st_dev, status.st_ino) and not empty
