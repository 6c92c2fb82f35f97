"""The confirmations stage: reads what receivers say, and has the ledger draw its conclusions.

A file in Kafka becomes ``delivered``, is sent again after a while, or has failed for good. What was
in a topic that was deleted and made again is sent again too, as far as no receiver confirmed it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from kfd.config import Upload
from kfd.daemon.badrecords import Throttle
from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import delivery, resending
from kfd.daemon.ledger.database import Operation
from kfd.daemon.ledger.delivery import Heard, Position, Rules, Verdict
from kfd.daemon.receiptreader import Letter, ReceiptReader
from kfd.daemon.stage import Stage
from kfd.errors import KfdError
from kfd.kafka import Topic
from kfd.receipts import SUFFIX, decode, key_of
from kfd.wire import BadRecord

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
FOLLOW_SECONDS = 1.0  # between looks at which topics there are to be read
LOOK_SECONDS = (1.0, 10.0)  # between asking for receipts that nobody has sent yet: first, at most
NOTE_SECONDS = 10.0  # between notes of positions where nothing was for us
TIDY_SECONDS = 3600.0
DROPPED_SECONDS = 10.0  # between looks at what the topics have dropped
TOGETHER = 1000  # receipts in one transaction
PAGE = 100  # transfers sent again in one transaction


@dataclass(slots=True)
class _Batch:
    """What was read and is not in the ledger yet, of one topic (that of the files)."""

    heard: list[Heard] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    positions: dict[int, Position] = field(default_factory=dict)


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
        self._cluster = context.cluster
        self._topics = context.topics
        self._health = context.health
        self._reader = ReceiptReader(context.properties)
        self._key = key_of(self._ledger.instance)
        self._routes = routes
        self._rules = rules_of(routes)
        self._requeued = requeued
        self._throttle = Throttle()
        self._reading: dict[str, Topic] = {}  # topic of files → that of the receipts
        self._batches: dict[str, _Batch] = {}
        self._current: dict[str, str] = {}  # topic → the id that the ledger knows to be sent to
        self._lows: dict[tuple[str, int], int] = {}  # (topic id, partition) → oldest offset
        self._follow_at = self._look_at = self._note_at = self._tidy_at = 0.0  # monotonic
        self._dropped_at = 0.0  # monotonic
        self._look_pause = LOOK_SECONDS[0]

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.beat()
                self._step()
        finally:
            self._reader.close()

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._follow_at:
            self._follow_at = now + FOLLOW_SECONDS
            self._follow()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._ledger.write_patiently(delivery.forget_confirmations)
        letters = self._reader.poll(POLL_SECONDS)
        if letters is None:
            self.stopping.wait(POLL_SECONDS)
        for letter in letters or ():
            self._take(letter)
        self._conclude(now)
        self._hear_early()
        if now >= self._dropped_at:
            self._dropped_at = now + DROPPED_SECONDS
            self._look_for_dropped()
        self._resend()

    # Which topics

    def _follow(self) -> None:
        """See which topics of receipts are to be read now, and which topics were made again."""
        waiting = delivery.unconfirmed(self._ledger.reader())
        topics = waiting | {route.topic for route in self._routes.values()}
        found = {}
        for topic in topics:
            self._topics.want_receipts(topic, topic, sending=False)
            receipts = self._topics.receipts(topic)
            if receipts is not None:
                found[topic] = receipts
            self._compare(topic)
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
        starts: dict[tuple[str, int], int | None] = {}
        for receipts in found.values():
            known = delivery.positions(self._ledger.reader(), receipts.name, receipts.topic_id)
            for partition in range(receipts.partitions):
                starts[receipts.name, partition] = known.get(partition)
        self._reader.assign(starts)
        self._reading = found
        self._look_pause = LOOK_SECONDS[0]

    def _compare(self, topic: str) -> None:
        """Send again what was in a topic that was deleted, if this one was made in its place."""
        now = self._topics.sendable(topic)
        if now is None or self._current.get(topic) == now.topic_id:
            return
        if resending.topic_sent_to(self._ledger.reader(), topic) != now.topic_id:
            self._send_old_again(topic, now.topic_id)
        self._current[topic] = now.topic_id

    def _send_old_again(self, topic: str, topic_id: str) -> None:
        after: int | None = 0
        count = 0
        while after is not None and not self.stopping.is_set():
            after, again = self._ledger.write_patiently(
                partial(
                    resending.from_old_topic,
                    topic=topic,
                    topic_id=topic_id,
                    after=after,
                    limit=PAGE,
                )
            )
            reach("confirmations.old-topic")
            count += len(again)
            self._tell(again)
            self.beat()
        if after is None:
            self._ledger.write_patiently(lambda db: resending.note_topic(db, topic, topic_id))
        if count:
            log.warning(
                "topic %s was made again: %d files are sent again that no receiver had confirmed",
                *(topic, count),
            )

    # What they say

    def _take(self, letter: Letter) -> None:
        topic = letter.topic.removesuffix(SUFFIX)
        reading = self._reading.get(topic)
        if reading is None:
            return
        batch = self._batches.setdefault(topic, _Batch())
        batch.positions[letter.partition] = Position(
            *(letter.topic, reading.topic_id, letter.partition, letter.offset + 1)
        )
        if letter.key not in (None, self._key):
            return  # for another sender
        try:
            told = decode(letter.value)
        except BadRecord as error:
            batch.bad[error.reason] += 1
            return
        ours = letter.key is not None
        batch.heard += [
            Heard(told.receiver, told.instance, receipt, ours) for receipt in told.receipts
        ]
        if len(batch.heard) >= TOGETHER:
            self._save()

    def _conclude(self, now: float) -> None:
        heard = any(batch.heard or batch.bad for batch in self._batches.values())
        if heard or (self._batches and now >= self._note_at):
            self._save()

    def _save(self) -> None:
        """Have the ledger take what was read. Killed before: it is read again."""
        self._note_at = time.monotonic() + NOTE_SECONDS
        batches, self._batches = self._batches, {}
        for topic, batch in batches.items():
            reach("confirmations.read")
            self._say(topic, self._ledger.write_patiently(self._hearing(topic, batch)))
            reach("confirmations.saved")

    def _hearing(self, topic: str, batch: _Batch) -> Operation[Verdict]:
        places = list(batch.positions.values())
        return lambda db: delivery.hear(db, topic, batch.heard, batch.bad, places, self._rules)

    def _hear_early(self) -> None:
        if delivery.has_early(self._ledger.reader()):
            verdict = self._ledger.write_patiently(
                lambda db: delivery.hear_early(db, self._rules, TOGETHER)
            )
            self._say("", verdict)

    def _say(self, topic: str, verdict: Verdict) -> None:
        for reason in verdict.failed:
            log.warning("failed: %s", reason)
        for reason in verdict.refused:
            if self._throttle.passes("refused"):
                log.warning("%s; it is sent again", reason)
        for kind, count in verdict.bad.items():
            if count and self._throttle.passes(kind):
                log.warning("receipts about %s not used: %s", topic, kind)

    # What is sent again

    def _look_for_dropped(self) -> None:
        """Topics may have dropped what no receiver has read; only where some receiver answers."""
        for name in delivery.unconfirmed(self._ledger.reader()) & self._reading.keys():
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
        risen = {
            partition: low
            for (_, partition), low in found.items()
            if low > self._lows.get((topic.topic_id, partition), 0)
        }
        if not risen:
            return
        dropped = resending.dropped(self._ledger.reader(), topic.name, topic.topic_id, risen)
        if dropped:
            self._ledger.write_patiently(lambda db: resending.send_soon(db, dropped))
            log.warning("%s has dropped %d files unread: sent again", topic.name, len(dropped))
        self._lows |= {(topic.topic_id, partition): low for partition, low in risen.items()}

    def _resend(self) -> None:
        due, now = resending.next_due(self._ledger.reader()), time.time()
        if due is not None and not now < due <= now + resending.LONGEST_PAUSE:
            self._tell(self._ledger.write_patiently(lambda db: resending.due(db, PAGE)))
            reach("confirmations.resent")

    def _tell(self, again: Sequence[tuple[str, str]]) -> None:
        for route, topic in set(again):
            self._requeued(route, topic)


def rules_of(routes: Mapping[str, Upload]) -> Rules:
    """What the upload routes say about deliveries."""
    return Rules(
        receivers={name: route.receivers for name, route in routes.items()},
        disposing=frozenset(
            (name, route.topic) for name, route in routes.items() if route.then.action != "keep"
        ),
    )
