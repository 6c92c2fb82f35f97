"""The confirmations stage: reads what receivers say, and has the ledger draw its conclusions.

A file in Kafka becomes ``delivered``, is sent again after a while, or has failed for good. What was
in a topic that was deleted and made again is sent again too, as far as no receiver confirmed it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from kfd.config import Upload
from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import confirmations, delivery, receiptreading
from kfd.daemon.ledger.conclusions import Judged, Rules, Verdict
from kfd.daemon.ledger.database import Operation
from kfd.daemon.messageids import About, Message, about, log_batch
from kfd.daemon.receipts.inbox import Batch, Inbox
from kfd.daemon.receipts.reader import Letter, ReceiptReader
from kfd.daemon.receipts.resender import Resender
from kfd.daemon.stage import Stage
from kfd.daemon.throttle import Throttle
from kfd.kafka import Topic
from kfd.paths import escape
from kfd.receipts import SUFFIX, key_of

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
FOLLOW_SECONDS = 1.0  # between looks at which topics there are to be read
LOOK_SECONDS = (1.0, 10.0)  # between asking for receipts that nobody has sent yet: first, at most
NOTE_SECONDS = 10.0  # between notes of positions where nothing was for us
TIDY_SECONDS = 3600.0
DROPPED_SECONDS = 10.0  # between looks at what the topics have dropped
TOGETHER = 1000  # receipts in one transaction


class Confirmations(Stage):
    """Named ``confirmations``. Everything happens in its own thread."""

    def __init__(
        self,
        context: Context,
        routes: Mapping[str, Upload],
        requeued: Callable[[str, str], None],
    ) -> None:
        """``requeued`` hears of each (route, topic) to which something is sent again."""
        super().__init__("confirmations")
        self._ledger = context.ledger
        self._topics = context.topics
        self._reader = ReceiptReader(context.properties)
        self._inbox = Inbox(key_of(self._ledger.instance))
        self._resender = Resender(context, requeued, self._goes_on)
        self.use(routes)
        self._throttle = Throttle()
        self._followed: set[str] = set()  # topics of files whose receipts are looked for
        self._reading: dict[str, Topic] = {}  # topic of files → that of the receipts
        self._follow_at = self._look_at = self._note_at = self._tidy_at = 0.0  # monotonic
        self._dropped_at = 0.0  # monotonic
        self._look_pause = LOOK_SECONDS[0]

    def use(self, routes: Mapping[str, Upload]) -> None:
        """Go by these routes from now on. Any thread."""
        self._routes = routes
        self._rules = rules_of(routes)

    def run(self) -> None:
        try:
            while self._goes_on():
                self._step()
        finally:
            self._reader.close()

    def _goes_on(self) -> bool:
        self.beat()
        return not self.stopping.is_set()

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._follow_at:
            self._follow_at = now + FOLLOW_SECONDS
            self._follow()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._ledger.write_patiently(confirmations.forget)
        self._read()
        if self._inbox.has_news or (not self._inbox.empty and now >= self._note_at):
            self._save()
        self._hear_early()
        if now >= self._dropped_at:
            self._dropped_at = now + DROPPED_SECONDS
            self._look_for_dropped()
        self._resender.send_due()

    def _look_for_dropped(self) -> None:
        """Topics may have dropped what no receiver has read; only where some receiver answers."""
        waiting = receiptreading.unconfirmed(self._ledger.reader())
        self._resender.look_for_dropped(waiting & self._reading.keys())

    # Which topics

    def _follow(self) -> None:
        """See which topics of receipts are to be read now, and which topics were made again."""
        waiting = receiptreading.unconfirmed(self._ledger.reader())
        confirmed = {one.topic for one in self._routes.values() if one.format == "kfd"}
        topics = waiting | confirmed
        found = {}
        for topic in topics:
            self._topics.want_receipts(topic, topic, sending=False)
            receipts = self._topics.receipts(topic)
            if receipts is not None:
                found[topic] = receipts
            self._resender.compare(topic)
        for topic in self._followed - topics:
            self._topics.retract_receipts(topic, topic, sending=False)
        self._followed = topics
        if waiting - found.keys():
            self._look_for_them()
        if found != self._reading:
            self._assign(found)

    def _look_for_them(self) -> None:
        """The first receipt makes its topic: look for it, less and less often."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + self._look_pause
            self._look_pause = min(2 * self._look_pause, LOOK_SECONDS[1])
            self._topics.look_soon()

    def _assign(self, found: dict[str, Topic]) -> None:
        self._save()  # positions, so that nothing is read twice
        reader = self._ledger.reader()
        starts: dict[tuple[str, int], int | None] = {}
        for receipts in found.values():
            known = receiptreading.positions(reader, receipts.name, receipts.topic_id)
            for partition in range(receipts.partitions):
                starts[receipts.name, partition] = known.get(partition)
        self._reader.assign(starts)
        self._reading = found
        self._look_pause = LOOK_SECONDS[0]

    # What they say

    def _read(self) -> None:
        letters = self._reader.poll(POLL_SECONDS)
        if letters is None:
            self.stopping.wait(POLL_SECONDS)
        for letter in letters or ():
            self._take(letter)

    def _take(self, letter: Letter) -> None:
        topic = letter.topic.removesuffix(SUFFIX)
        reading = self._reading.get(topic)
        if reading is not None and self._inbox.put(topic, reading.topic_id, letter) >= TOGETHER:
            self._save()

    def _save(self) -> None:
        """Have the ledger take what was read. Killed before: it is read again."""
        self._note_at = time.monotonic() + NOTE_SECONDS
        for topic, batch in self._inbox.take().items():
            reach("confirmations.read")
            self._say(topic, self._ledger.write_patiently(self._hearing(topic, batch)))
            reach("confirmations.saved")

    def _hearing(self, topic: str, batch: Batch) -> Operation[Verdict]:
        places = list(batch.positions.values())
        return lambda db: delivery.hear(db, topic, batch.heard, batch.bad, places, self._rules)

    def _hear_early(self) -> None:
        if confirmations.has_early(self._ledger.reader()):
            verdict = self._ledger.write_patiently(
                lambda db: delivery.hear_early(db, self._rules, TOGETHER)
            )
            self._say("", verdict)

    def _say(self, topic: str, verdict: Verdict) -> None:
        delivered = [(row.route, row.tid, row.path) for row in verdict.delivered]
        log_batch(log, Message.DELIVERED, "delivered", delivered)
        for row, reason in verdict.failed:
            told = _about(Message.FAILED, row)
            log.warning("failed: %s: %s", escape(row.path), reason, extra=told)
        for row, reason in verdict.refused:
            if self._throttle.passes("refused"):
                told = _about(Message.SENT_AGAIN, row)
                log.warning("%s: %s; it is sent again", escape(row.path), reason, extra=told)
        for kind, count in verdict.bad.items():
            if count and self._throttle.passes(kind):
                log.warning("receipts about %s not used: %s", topic, kind)


def _about(message: Message, row: Judged) -> dict[str, About]:
    return about(message, route=row.route, transfers=[(row.tid, row.path)])


def rules_of(routes: Mapping[str, Upload]) -> Rules:
    """What the upload routes say about deliveries."""
    return Rules(
        receivers={name: route.receivers for name, route in routes.items()},
        disposing=frozenset(
            (name, route.topic) for name, route in routes.items() if route.then.action != "keep"
        ),
    )
