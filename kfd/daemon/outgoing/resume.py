"""What may be gone on with after an interruption, and what has to start over under a new tid.

Going on re-sends from the acknowledged prefix under the same tid. That is right only if the topic
is the same one, the transfer's first record is still in it, and receivers can't have expired it.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kfd.daemon.crashpoint import reach
from kfd.daemon.fileversion import FileVersion, inode_of
from kfd.daemon.ledger import Ledger, endings
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.outgoing.formats import sending_of
from kfd.daemon.outgoing.sending import Sending
from kfd.daemon.topics.topics import TopicWatch
from kfd.errors import KfdError
from kfd.kafka import RECORD_OVERHEAD, ClusterView, Topic

log = logging.getLogger(__name__)

RESUME_SECONDS = 12 * 3600.0  # half of the time after which receivers may expire a transfer
SETTLE_SECONDS = 3.0  # for a changed file that no watcher looks after
_REPLACED = "the file was removed or replaced before it was sent"


class Resumption:
    """Judges interrupted transfers. Called in the feed's thread."""

    def __init__(
        self,
        ledger: Ledger,
        topics: TopicWatch,
        cluster: ClusterView,
        abort: Callable[[Sending], None],
    ) -> None:
        self._ledger = ledger
        self._topics = topics
        self._cluster = cluster
        self._abort = abort

    def resumable(self, rows: Sequence[Outgoing]) -> list[Outgoing]:
        """Those of ``rows`` to go on with now. Others start over, or wait for their topic."""
        ready = [row for row in rows if self._topics.sendable(row.topic) is not None]
        try:
            lows = self._cluster.low_watermarks(
                {
                    (row.topic, row.partition)
                    for row in ready
                    if row.acked and row.partition is not None
                }
            )
        except KfdError as error:
            log.debug("resuming waits for the brokers: %s", error)
            return []
        return [row for row in ready if not self._starts_over(row, lows)]

    def _starts_over(self, row: Outgoing, lows: Mapping[tuple[str, int], int]) -> bool:
        topic = self._topics.sendable(row.topic)
        if topic is None:
            return False
        reason = _obstacle(row, topic, lows)
        if not reason:
            return False
        # the ledger first: killed in between, the old transfer ends by expiry at its receivers
        if self._ledger.write_patiently(lambda db: endings.start_over(db, row, reason)) is None:
            return True
        reach("sender.started-over")
        if row.topic_id == topic.topic_id:
            self._abort(sending_of(row, self._ledger.origin, self._ledger.instance))
        log.info("%s starts over: %s", row.tid.hex(), reason)
        return True


def _obstacle(row: Outgoing, topic: Topic, lows: Mapping[tuple[str, int], int]) -> str:
    """Why a transfer can't go on under its tid; empty if it can."""
    assert row.partition is not None
    assert row.chunk_size is not None
    if row.topic_id != topic.topic_id:
        return "the topic was deleted and made again"
    if topic.max_record is not None and row.chunk_size + RECORD_OVERHEAD > topic.max_record:
        return "the topic takes smaller records now"
    if row.acked == 0:
        return ""
    if lows.get((row.topic, row.partition), 0) > (row.first_offset or 0):
        return "its first record is no longer in the topic"
    if time.time() - (row.acked_at or 0) > RESUME_SECONDS:
        return "it was interrupted for too long"
    return ""


def version_now(row: Outgoing) -> FileVersion | None:
    """The file of a transfer as it is now; None if it can't be looked at, or isn't to be sent.

    Who asked for a file has shown that he may read it. Another file in its place is sent only if it
    is that one's own: what the path leads to now may be somebody else's.
    """
    try:
        status = os.lstat(row.source)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not _may_be_sent(row, status):
        return None
    return FileVersion.of(row.path, row.source, status, inodes=row.inode != 0)


def _may_be_sent(row: Outgoing, status: os.stat_result) -> bool:
    if row.uid in (None, 0, os.geteuid()) or row.spool is not None:
        return True
    same = (row.device, row.inode) == (status.st_dev, inode_of(status))
    return same or row.uid == status.st_uid


def succeeded(one: Ending) -> Ending:
    """The end of a transfer whose file changed, with the file as it is now to follow.

    It may still be changing: the feed looks again when its time has come. A file that is gone, or
    has another in its place, has no successor.
    """
    version = version_now(one.row)
    if version is None:
        return replace(one, state="failed", reason=_REPLACED, fix="send it again")
    return replace(one, successor=version, not_before=time.time() + SETTLE_SECONDS)
