"""The consumers: members of a route's group, each a thread with a client and a receiver of its own.

This module polls, and does what is asked of its thread meanwhile. Which partitions it has is in
``ownership.py``, what is committed and where reading begins in ``commits.py``, the client in
``fetching.py``, what becomes of the records in ``receiver.py``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kfd.daemon.context import Context
from kfd.daemon.incoming.beginnings import Beginnings
from kfd.daemon.incoming.commits import Commits, of_topic, watermarks
from kfd.daemon.incoming.fetching import POLL_SECONDS, Fetcher, is_fatal
from kfd.daemon.incoming.membership import Assignment, Membership
from kfd.daemon.incoming.ownership import Ownership
from kfd.daemon.incoming.receiver import Receiver
from kfd.daemon.incoming.record import Record
from kfd.daemon.incoming.troubles import Troubles
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import DiskError
from kfd.daemon.stage import Stage
from kfd.kafka import Topic, describe
from kfd.transfer import OpenTransfer

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0  # between looks at what is idle
RETRY_SECONDS = 2.0
HASHED_AT_ONCE = 64 << 20  # bytes of partials that are read again between two polls


class ConsumerThread(Stage):
    """One of a route's pool, named ``consumer-ROUTE-N``. All but :meth:`check` and
    :meth:`lag` in its own thread."""

    def __init__(
        self,
        name: str,
        membership: Membership,
        receiver: Receiver,
        assignment: Assignment,
        beginnings: Beginnings,
        context: Context,
    ) -> None:
        """``assignment`` is kept up to date here; shared with those who may act only on it."""
        super().__init__(name)
        self.records = 0  # read since the start; written by this thread only
        self.receiving: tuple[OpenTransfer, ...] = ()  # a snapshot, for others to read
        self.held: frozenset[PartKey] = frozenset()  # likewise: their partials
        self.waiting = 0  # likewise: bytes of the smallest file that waits for space
        self.idle = True  # nothing is being received: no member, or the route is paused
        self._receiver = receiver
        self._membership = membership
        self._beginnings = beginnings
        self._properties = context.properties
        self._topics = context.topics
        self._pauses = context.pauses
        self._troubles = Troubles(name, membership, context.health)
        self._rates = context.rates
        self._ticked_at = 0.0  # monotonic
        self._tried_at = 0.0  # monotonic; when deferred files were last tried
        self._lag: dict[int, int] = {}
        self._assignment = assignment
        self._ownership = self._own("", made_anew=False)

    def lag(self) -> int | None:
        """Records that are in the topic and not read, as far as it was seen. Any thread."""
        lag = self._lag.copy()
        return sum(lag.values()) if lag else None

    def check(self) -> None:
        """Raise :class:`ConfigError` for properties that librdkafka refuses. Before the start."""
        self._connect(None).close()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.beat()
            topic = self._topics.readable(self._membership.topic)
            if topic is None:
                self.stopping.wait(POLL_SECONDS)
                continue
            self._keep_to(topic.topic_id)
            self._take_part(topic)

    def _keep_to(self, topic_id: str) -> None:
        """What was committed is of the topic with this id only."""
        known = self._ownership.topic_id
        made_anew = known not in ("", topic_id)
        if made_anew:
            log.warning("%s: topic %s was made again", self.name, self._membership.topic)
        if known != topic_id:
            self._ownership = self._own(topic_id, made_anew=made_anew)

    def _own(self, topic_id: str, *, made_anew: bool) -> Ownership:
        commits = Commits(self.name, self._membership, self._beginnings, topic_id, made_anew)
        return Ownership(
            *(self.name, self._membership, self._receiver, self._assignment),
            *(self._topics, commits),
        )

    def _take_part(self, topic: Topic) -> None:
        """Be a member of the group until stopped, the topic is another one, or it is doubtful."""
        fetcher = self._connect(topic)
        try:
            self.idle = False
            fetcher.join(self._on_assign, self._on_revoke, self._on_lost)
            while not self.stopping.is_set() and self._ownership.holds():
                if self._may_not_read():
                    self._hold(fetcher)
                self._step(fetcher)
                if self._assignment.stood_still():
                    log.warning("%s: this process stood still: joining its group anew", self.name)
                    return
            self._ownership.save(fetcher)
        except (KafkaException, DiskError) as error:
            reason = error.what if isinstance(error, DiskError) else describe(error.args[0])
            self._troubles.reading(f"it stopped and is tried again: {reason}")
            self.stopping.wait(RETRY_SECONDS)
        finally:
            self._give_up(self._assignment.partitions)
            fetcher.close()
            self.idle = True

    def _connect(self, topic: Topic | None) -> Fetcher:
        return Fetcher(
            *(self._membership, self._assignment, topic, self._properties),
            *(self._on_trouble, self._on_commit),
        )

    def _step(self, fetcher: Fetcher) -> None:
        messages = fetcher.poll()
        records = fetcher.records(messages)
        self.beat()
        try:
            self._work(fetcher, records)
        except DiskError as error:
            self._wait_for_disk(fetcher, error)
        for message in messages:
            failure = message.error()
            if failure is not None:
                self._on_error(fetcher, failure, message)
        self._troubles.went_well()
        self._note_lag(fetcher)
        self._ownership.commit(fetcher)

    def _work(self, fetcher: Fetcher, records: Sequence[Record]) -> None:
        """Everything that concerns files."""
        if self._receiver.catch_up(HASHED_AT_ONCE):
            self._catch_up(fetcher)
            return  # the records come again
        if records:
            self._receive(records)
        self._tick()
        self._receiver.checkpoint()
        self._move(fetcher, self._receiver.take_rewinds())

    def _receive(self, records: Sequence[Record]) -> None:
        self.records += len(records)
        self._receiver.receive(records)
        size = sum(len(record.value or b"") for record in records)
        self._rates.add(self._membership.route, self._membership.topic, size)
        self._show()

    def _show(self) -> None:
        self.receiving = tuple(self._receiver.open_transfers())
        self.held = frozenset(self._receiver.held())

    def _catch_up(self, fetcher: Fetcher) -> None:
        """Read partials of an earlier life for their digests, and go on polling meanwhile."""
        fetcher.pause()
        while not self.stopping.is_set() and self._receiver.catch_up(HASHED_AT_ONCE):
            fetcher.poll_paused(0)
            self.beat()
        self._move(fetcher, self._receiver.positions())

    def _tick(self) -> None:
        """Let time pass for what is idle, and try again what waits for space."""
        now = time.monotonic()
        if now - self._ticked_at < TICK_SECONDS:
            return
        # after a pause of the thread, time has not passed for what it could not read
        seconds = min(now - self._ticked_at, 2 * TICK_SECONDS)
        self._ticked_at = now
        at_end = [number for number, behind in self._lag.items() if behind == 0]
        self._receiver.pass_time(seconds, at_end)
        self._show()  # what has expired is not being received any more
        if now - self._tried_at >= RETRY_SECONDS:
            self._tried_at = now
            self._receiver.try_deferred()
            deferred = self._receiver.deferred()
            self.waiting = min(deferred, default=0)
            self._troubles.waiting(deferred)

    def _on_error(self, fetcher: Fetcher, error: KafkaError, message: Any) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            if message.partition() in self._assignment.partitions:
                self._reset(fetcher, message.partition())
        elif is_fatal(error):
            raise KafkaException(error)
        else:
            self._topics.look_soon()
            self._troubles.reading(describe(error))

    def _reset(self, fetcher: Fetcher, partition: int) -> None:
        """The topic no longer has our position: go on with the oldest that it has, and say so."""
        low, high = watermarks(fetcher.client, of_topic(self._membership, partition))
        position = self._receiver.positions()[partition]
        log.warning(
            "%s: %s[%d] has offsets %d to %d, not %d: reading from %d",
            *(self._membership.route, self._membership.topic, partition, low, high, position, low),
        )
        self._receiver.reset(partition, low, high)
        self._move(fetcher, {partition: low})

    def _move(self, fetcher: Fetcher, offsets: Mapping[int, int]) -> None:
        if offsets:
            fetcher.move(offsets, self._receiver.positions())

    def _wait_for_disk(self, fetcher: Fetcher, error: DiskError) -> None:
        """Pause until the disk takes files again; polling goes on, so the group keeps us."""
        fetcher.pause()
        while not self.stopping.is_set():
            self._troubles.disk(error)
            until = time.monotonic() + RETRY_SECONDS
            while time.monotonic() < until and not self.stopping.is_set():
                fetcher.poll_paused(POLL_SECONDS)
                self.beat()
            try:
                self._receiver.resume()
                self._receiver.checkpoint()
            except DiskError as again:
                error = again
            else:
                self._receiver.take_rewinds()  # the positions are these already
                self._move(fetcher, self._receiver.positions())
                self._troubles.disk_is_back()
                return

    def _may_not_read(self) -> bool:
        return self._membership.route in self._pauses or (self._membership.alone and self._shares())

    def _shares(self) -> bool:
        """Whether other members of the group have some of the partitions, and we the others."""
        topic, ours = self._topics.readable(self._membership.topic), self._assignment.partitions
        if topic is None or not 0 < len(ours) < topic.partitions:
            self._troubles.alone()
            return False
        self._troubles.sharing(len(ours), topic.partitions)
        return True

    def _hold(self, fetcher: Fetcher) -> None:
        """Read nothing while the route is paused, or other hosts have a part of what it needs;
        polling goes on, so the group keeps us."""
        self._ownership.save(fetcher)
        log.info("%s: paused", self.name)
        while (
            self._may_not_read()
            and not self.stopping.is_set()
            and self._ownership.holds()
            and not self._assignment.stood_still()
        ):
            fetcher.pause()  # again and again: a rebalance brings partitions that are not
            self.idle = True
            fetcher.poll_paused(POLL_SECONDS)
            self.beat()
        self.idle = False
        self._move(fetcher, self._receiver.positions())
        log.info("%s: goes on", self.name)

    def _on_assign(self, fetcher: Fetcher, partitions: Sequence[TopicPartition]) -> None:
        self._ownership.take(fetcher, partitions)

    def _on_revoke(self, fetcher: Fetcher, partitions: Sequence[TopicPartition]) -> None:
        self._ownership.save(fetcher)
        self._on_lost(fetcher, partitions)

    def _on_lost(self, fetcher: Fetcher, partitions: Sequence[TopicPartition]) -> None:
        self._give_up([one.partition for one in partitions])
        fetcher.release(partitions)

    def _give_up(self, partitions: Iterable[int]) -> None:
        partitions = list(partitions)
        for number in partitions:
            self._lag.pop(number, None)
        self._ownership.give_up(partitions)
        self._show()

    def _note_lag(self, fetcher: Fetcher) -> None:
        for number, position in self._receiver.positions().items():
            behind = fetcher.behind(number, position)
            if behind is not None:
                self._lag[number] = behind

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        self._ownership.on_commit(error, partitions)

    def _on_trouble(self, error: KafkaError) -> None:
        log.debug("%s: %s", self.name, describe(error))
        self._topics.look_soon()
