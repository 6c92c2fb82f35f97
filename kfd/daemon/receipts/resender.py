"""Has files sent again that were in Kafka: refused by receivers, dropped unread, or in a topic that
was deleted and made again.

All of it is drawn from the ledger, in transactions of a page: killed anywhere, the next start goes
on with what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import resending
from kfd.daemon.ledger.resending import Gap
from kfd.errors import KfdError
from kfd.kafka import Topic

log = logging.getLogger(__name__)

PAGE = 100  # transfers sent again in one transaction
DROPPED_PAGE = 1000  # transfers that are put off in one transaction


class Resender:
    """Used in one thread, that of the confirmations."""

    def __init__(
        self,
        context: Context,
        requeued: Callable[[str, str], None],
        goes_on: Callable[[], bool],
    ) -> None:
        """``requeued`` hears of each (route, topic) to which something is sent again; ``goes_on``
        is asked between pages whether to go on."""
        self._ledger = context.ledger
        self._cluster = context.cluster
        self._topics = context.topics
        self._requeued = requeued
        self._goes_on = goes_on
        self._current: dict[str, str] = {}  # topic → the id that the ledger knows to be sent to
        self._lows: dict[tuple[str, int], int] = {}  # (topic id, partition) → oldest offset

    def send_due(self) -> None:
        """Send again what was refused a while ago."""
        if resending.is_due(self._ledger.reader()):
            self._tell(self._ledger.write_patiently(lambda db: resending.due(db, PAGE)))
            reach("confirmations.resent")

    def compare(self, topic: str) -> None:
        """Send again what was in a topic that was deleted, if this one was made in its place."""
        now = self._topics.sendable(topic)
        if now is None or self._current.get(topic) == now.topic_id:
            return
        known = resending.topic_sent_to(self._ledger.reader(), topic)
        if known == now.topic_id or self._send_old_again(topic, now.topic_id):
            self._current[topic] = now.topic_id

    def _send_old_again(self, topic: str, topic_id: str) -> bool:
        """False if it was stopped before all was sent again: the next start goes on."""
        page = partial(resending.from_old_topic, topic=topic, topic_id=topic_id, limit=PAGE)
        count = 0
        while self._goes_on():
            again = self._ledger.write_patiently(page)
            reach("confirmations.old-topic")
            count += len(again)
            self._tell(again)
            if len(again) < PAGE:
                break
        else:
            return False
        self._ledger.write_patiently(lambda db: resending.note_topic(db, topic, topic_id))
        if count:
            log.warning(
                "topic %s was made again: %d files are sent again that no receiver had confirmed",
                *(topic, count),
            )
        return True

    def look_for_dropped(self, names: Iterable[str]) -> None:
        """Send again what these topics have dropped before a receiver confirmed it."""
        for name in names:
            topic = self._topics.sendable(name)
            if topic is not None:
                self._send_dropped_again(topic)

    def _send_dropped_again(self, topic: Topic) -> None:
        every = {(topic.name, partition) for partition in range(topic.partitions)}
        try:
            found = self._cluster.low_watermarks(every)
        except KfdError as error:
            log.debug("what %s has dropped is seen later: %s", topic.name, error)
            return
        count = 0
        for (_, partition), low in found.items():
            if low > self._lows.get((topic.topic_id, partition), 0):
                self._lows[topic.topic_id, partition] = low
                count += self._send_soon(Gap(topic.name, topic.topic_id, partition, low))
        if count:
            log.warning("%s has dropped %d files unread: sent again", topic.name, count)

    def _send_soon(self, gap: Gap) -> int:
        """Have what lies in a gap sent again; how much that is."""
        after, count = -1, 0
        while self._goes_on():
            page = resending.dropped(self._ledger.reader(), gap, after, DROPPED_PAGE)
            if not page:
                break
            numbers = [number for number, _ in page]
            self._ledger.write_patiently(partial(resending.send_soon, dropped=numbers))
            _, after = page[-1]
            count += len(page)
        return count

    def _tell(self, again: Sequence[tuple[str, str]]) -> None:
        for route, topic in set(again):
            self._requeued(route, topic)
