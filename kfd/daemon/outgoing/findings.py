"""Where a watcher's files go: into the ledger, for one upload route as it is configured now."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kfd.config import Upload
from kfd.daemon.crashpoint import reach
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, accepting, known
from kfd.daemon.ledger.accepting import Accepted, Offer
from kfd.daemon.messageids import Message, log_batch
from kfd.daemon.outgoing.feed import Feed

log = logging.getLogger(__name__)


class Findings:
    """The sink of one watcher. A route that is changed has another watcher with another of these,
    so that one that hangs with its share can't queue files for what the route was before."""

    def __init__(
        self, route: Upload, ledger: Ledger, feed: Feed, *, chunk_size: int, born_ns: int
    ) -> None:
        """Files older than ``born_ns`` are skipped."""
        self.chunk_size = chunk_size  # of what is queued from now on
        self.closed = False  # when set, nothing more is queued
        self._route = route
        self._ledger = ledger
        self._feed = feed
        self._born_ns = born_ns

    def settled(self, route: str, versions: Sequence[FileVersion]) -> None:
        """Queue files that the watcher saw settle."""
        if self.closed:
            return
        topic = self._route.topic
        offer = Offer(
            *(route, topic, versions, self.chunk_size, self._route.meta),
            skip_older_ns=self._born_ns,
            format=self._route.format,
        )
        accepted = self._ledger.write_patiently(lambda db: accepting.accept(db, offer))
        reach("sender.accepted-file")
        self._feed.accepted(route, topic)
        log_queued(offer, accepted)

    def unknown(self, route: str, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Those of ``versions`` that the ledger doesn't know as they are."""
        if self.closed:
            return ()
        return known.unknown(self._ledger.reader(), route, self._route.topic, versions)

    def skips(self, version: FileVersion) -> bool:
        """Whether the file is older than what is to be sent."""
        return version.ctime_ns < self._born_ns


def log_queued(offer: Offer, accepted: Sequence[Accepted]) -> None:
    """Say which files of an offer are new transfers."""
    files = [
        (offer.route, one.tid, version.path)
        for version, one in zip(offer.versions, accepted, strict=True)
        if one.tid is not None and not one.already
    ]
    log_batch(log, Message.QUEUED, "queued", files)
