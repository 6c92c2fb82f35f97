"""The topic watch: the stage that knows which topics can be used now, and why others can't.

A topic that is missing, a broker that is away or a limit that doesn't fit degrades the routes that
need it, and nothing else; looks go on until it is mended. What was seen last stays valid while no
broker answers: librdkafka reconnects by itself, and nothing sent in between is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from kfd.daemon.health import Health
from kfd.daemon.stage import Stage
from kfd.daemon.topics.needs import Needs, Wanted
from kfd.daemon.topics.reports import TopicReports
from kfd.daemon.topics.state import Seen, judge, warn_of_retention
from kfd.errors import KfdError
from kfd.kafka import BrokerAwayError, ClusterView, Topic, TopicRefusedError
from kfd.receipts import topic_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
DEGRADED_LOOK_SECONDS = 1.0
LEAST_SECONDS = 0.2
LIMIT_LOOKS = 30  # limits are asked for at every so many looks, and when a topic is new
UNREACHABLE = "away"


class TopicWatch(Stage):
    """Looks at the topics of all routes; named ``topics``. Other threads ask and are called back.

    The lock guards ``_seen``. ``on_change`` callbacks run in the stage's thread, without the lock.
    """

    def __init__(
        self, cluster: ClusterView, health: Health, *, create: bool, servers: str = "HOST:PORT"
    ) -> None:
        """``servers``: as people are told where a topic that is missing may be made."""
        super().__init__("topics")
        self.create = create  # whether topics that are missing are made
        self.brokers_known = 0
        self.brokers_up = 0
        self._cluster = cluster
        self._health = health
        self._reports = TopicReports(health, servers)
        self._needs = Needs()
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._look_now = threading.Event()
        self._on_change: list[Callable[[], None]] = []
        self._before_sending: list[Callable[[Topic], None]] = []
        self._looks = 0

    # What routes want of it. Any thread

    def want_to_send(self, topic: str, route: str, chunk_size: int) -> None:
        """A route sends to ``topic`` in chunks of this many bytes."""
        self._needs.send(topic, route, chunk_size)
        self.look_soon()

    def want_to_read(self, topic: str, route: str, least_retention: float) -> None:
        """A route reads ``topic``, which had better keep records this long (seconds)."""
        self._needs.read(topic, route, least_retention)
        self.look_soon()

    def want_receipts(self, topic: str, route: str, *, sending: bool) -> None:
        """A route sends receipts about the files on ``topic``, or reads them. It works without:
        where they are to be sent, but can't be, is said."""
        name = topic_of(topic)
        if name is not None and self._needs.receipts(name, route, sending=sending):
            self.look_soon()

    def retract(self, topic: str, route: str, *, sending: bool) -> None:
        """A route no longer sends to ``topic``, or no longer reads it. What was said to it about
        that is withdrawn at the next look, which is soon."""
        self._needs.retract(topic, route, sending=sending)
        self.look_soon()

    def retract_receipts(self, topic: str, route: str, *, sending: bool) -> None:
        """As :meth:`retract`, of receipts about the files on ``topic``."""
        name = topic_of(topic)
        if name is not None:
            self._needs.retract_receipts(name, route, sending=sending)
            self.look_soon()

    def resize(self, chunk_size: int) -> None:
        """All who send do so in chunks of this many bytes from now on."""
        self._needs.resize(chunk_size)
        self.look_soon()

    def call_before_sending(self, callback: Callable[[Topic], None]) -> None:
        """Have ``callback`` called before a topic counts as sendable. Before :meth:`start`."""
        self._before_sending.append(callback)

    def call_on_change(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after any topic has changed. Before :meth:`start`."""
        self._on_change.append(callback)

    # What was seen. Any thread

    def receipts(self, topic: str) -> Topic | None:
        """The topic for receipts about the files on ``topic``, if it can be used."""
        name = topic_of(topic)
        return None if name is None else self.readable(name)

    def readable(self, topic: str) -> Topic | None:
        """The topic as it was seen last, if it can be read."""
        seen = self._last(topic)
        return seen.topic if seen is not None and seen.reading_fault is None else None

    def sendable(self, topic: str) -> Topic | None:
        """The topic as it was seen last, if it can be sent to."""
        seen = self._last(topic)
        return seen.topic if seen is not None and seen.sending_fault is None else None

    def why_not_sendable(self, topic: str) -> KfdError | None:
        """Why a topic that exists can't be sent to, if that is so."""
        seen = self._last(topic)
        return seen.sending_fault if seen is not None else None

    def _last(self, topic: str) -> Seen | None:
        with self._lock:
            return self._seen.get(topic)

    # Looking

    def look_soon(self) -> None:
        """Look again at once: something suggests that the last look is outdated. Any thread."""
        self._look_now.set()

    def wake(self) -> None:
        self._look_now.set()

    def run(self) -> None:
        while not self.stopping.is_set():
            self._look_now.clear()
            complete = self._look()
            self.beat()
            # clients in trouble ask for looks many times a second
            self.stopping.wait(LEAST_SECONDS)
            self._look_now.wait(LOOK_SECONDS if complete else DEGRADED_LOOK_SECONDS)

    def _look(self) -> bool:
        """Look at everything once; true if every topic is usable and the brokers answer."""
        wanted = self._needs.all()
        self._reports.withdraw(wanted)
        try:
            self.brokers_up = self._cluster.brokers()
            self.brokers_known = max(self.brokers_known, self.brokers_up)
            found = self._look_at_topics(wanted)
        except BrokerAwayError as error:
            self.brokers_up = 0
            self._health.report(
                "kafka", UNREACHABLE, f"no broker answers: {error}",
                "start the brokers, or mend kafka: in the configuration",
            )  # fmt: skip
            return False
        except KfdError as error:
            self._health.report("kafka", UNREACHABLE, str(error), error.fix)
            return False
        self._health.clear("kafka", UNREACHABLE)
        self._looks += 1
        self._take_over(wanted, found)
        return all(self._complete(name, want) for name, want in wanted.items())

    def _complete(self, name: str, wanted: Wanted) -> bool:
        """Whether a topic serves all who want it."""
        return bool(
            (not wanted.senders or self.sendable(name))
            and (not wanted.readers or self.readable(name))
        )

    def _look_at_topics(self, wanted: Mapping[str, Wanted]) -> dict[str, Topic | None]:
        answers = self._cluster.topics(wanted) if wanted else {}
        found: dict[str, Topic | None] = {}
        for name, answer in answers.items():
            found[name] = self._with_limits(answer) if isinstance(answer, Topic) else None
            if isinstance(answer, TopicRefusedError):
                self._reports.unusable(name, wanted[name], answer)
            elif answer is None:
                self._miss(name, wanted[name])
        return found

    def _with_limits(self, topic: Topic) -> Topic:
        """Limits are asked for now and then, and whenever something isn't as it should be."""
        seen = self._seen.get(topic.name)
        if (
            seen is None
            or seen.topic.topic_id != topic.topic_id
            or seen.sending_fault is not None
            or self._looks % LIMIT_LOOKS == 0
        ):
            return self._cluster.limits(topic)
        return replace(seen.topic, partitions=topic.partitions)

    def _miss(self, name: str, wanted: Wanted) -> None:
        """A topic doesn't exist: make it, or say so."""
        if not wanted.routes and not wanted.telling:
            return  # receipts that nobody has sent yet
        if not self.create:
            self._reports.missing(name, wanted)
            return
        try:
            self._cluster.create(name)
        except BrokerAwayError:
            raise
        except KfdError as error:
            self._reports.missing(name, wanted, str(error))
        else:
            log.info("made topic %s", name)
            self.look_soon()

    # Taking over what was found

    def _take_over(self, wanted: Mapping[str, Wanted], found: Mapping[str, Topic | None]) -> None:
        changed = False
        for name, topic in found.items():
            if topic is None:
                changed |= self._forget(name)
            else:
                changed |= self._remember(topic, wanted[name])
        for name in self._seen.keys() - wanted.keys():  # nobody uses it any longer
            self._forget(name)
        if changed:
            for callback in self._on_change:
                callback()

    def _forget(self, name: str) -> bool:
        """A topic is no longer there; whether it was."""
        with self._lock:
            return self._seen.pop(name, None) is not None

    def _remember(self, topic: Topic, wanted: Wanted) -> bool:
        """A topic is as it was seen now; whether it was otherwise before."""
        old = self._seen.get(topic.name)
        seen = judge(topic, wanted.chunk_size)
        if wanted.senders and seen.sending_fault is None:
            for callback in self._before_sending:
                callback(topic)
        if old is None or old.topic.topic_id != topic.topic_id:
            warn_of_retention(topic, wanted.least_retention)
        with self._lock:
            self._seen[topic.name] = seen
        self._reports.seen(seen, wanted)
        return seen.differs(old)
