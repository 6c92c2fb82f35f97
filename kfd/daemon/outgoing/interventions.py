"""What people do to transfers that are on their way, or have come to an end: cancel and retry.

Called in the control server's threads. The ledger decides; what is in memory follows it, so that a
kill between any two steps leaves a transfer either as it was, or as it was to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import Ledger, cancelling, retrying
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.outgoing.feed import Feed
from kfd.daemon.outgoing.formats import sending_of
from kfd.daemon.outgoing.producer import RecordSink
from kfd.daemon.outgoing.resume import version_now
from kfd.daemon.outgoing.sending import GONE
from kfd.daemon.topics.topics import TopicWatch


class Interventions:
    """Owned by the sending half of the daemon."""

    def __init__(
        self,
        ledger: Ledger,
        feed: Feed,
        topics: TopicWatch,
        sink: RecordSink,
        requeued: Callable[[str, str], None],
    ) -> None:
        """``requeued`` is told route and topic of what is queued again."""
        self._ledger = ledger
        self._feed = feed
        self._topics = topics
        self._sink = sink
        self._requeued = requeued

    def cancel(self, number: int, reason: str) -> None:
        """Cancel a transfer (by its id in the ledger), unless it has ended, or all of it was handed
        to Kafka's client: what became of it is in the ledger then. Raises :class:`LedgerError`.

        Killed before the ledger has it, nothing has happened. Killed after that, no abort may be
        sent: receivers keep what they have of it until it expires.
        """
        sending = self._feed.withdraw(number)
        try:
            if sending is not None and not sending.withdraw(reason):
                return
            row = self._ledger.write(lambda db: cancelling.cancel(db, number, reason))
            reach("sender.cancelled")
        finally:
            self._feed.withdrawn(number)
        if row is not None and (sending is None or not sending.is_withdrawn):
            self._abort(row)  # else it is aborted when it has left the producers

    def put_aside(self, number: int, reason: str) -> None:
        """Let one that has failed be cancelled. Raises :class:`LedgerError`."""
        self._ledger.write(lambda db: cancelling.put_aside(db, number, reason))

    def _abort(self, row: Outgoing) -> None:
        """Tell receivers to drop what they may have of a transfer that nobody is sending."""
        topic = self._topics.sendable(row.topic)
        if row.partition is None or topic is None or topic.topic_id != row.topic_id:
            return
        sending = sending_of(row, self._ledger.origin, self._ledger.instance, resumed=True)
        if sending.has_partials:
            self._sink.abort(sending)

    def retry(self, rows: Sequence[Outgoing], chunk_size: int) -> dict[int, str]:
        """Queue these again, with new tids; id → why not, for those that can't be.

        Durable when this returns. Raises :class:`LedgerError`.
        """
        refused = retrying.obstacles(self._ledger.reader(), rows)
        refused |= {
            row.id: why for row in rows if row.id not in refused and (why := _obstacle(row))
        }
        able = [row for row in rows if row.id not in refused]
        refused |= self._ledger.write(lambda db: retrying.retry(db, able, chunk_size))
        for lane in {(row.route, row.topic) for row in able if row.id not in refused}:
            self._requeued(*lane)
        return refused


def _obstacle(row: Outgoing) -> str:
    """Why the file of a transfer can't be sent as it was; empty if it can."""
    if not row.source:
        return "kfd's copy of it was given up"
    version = version_now(row)
    if version is None:
        return GONE.reason
    same = (version.size, version.mtime_ns) == (row.size, row.mtime_ns)
    if not same or (row.inode and version.inode != row.inode):
        return "the file has changed since"
    return ""
