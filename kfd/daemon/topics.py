"""The topic watch: the stage that knows which topics can be used now, and why others can't.

A topic that is missing, a broker that is away or a limit that doesn't fit degrades the routes that
need it, and nothing else; looks go on until it is mended. What was seen last stays valid while no
broker answers: librdkafka reconnects by itself, and nothing sent in between is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from kfd.daemon.health import Health
from kfd.daemon.stage import Stage
from kfd.errors import KfdError
from kfd.kafka import RECORD_OVERHEAD, BrokerAwayError, ClusterView, Topic

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
DEGRADED_LOOK_SECONDS = 1.0
LEAST_SECONDS = 0.2
LIMIT_LOOKS = 30  # limits are asked for at every so many looks, and when a topic is new
UNREACHABLE = "away"


@dataclass(slots=True)
class Wanted:
    """A topic that some routes use."""

    chunk_size: int = 0  # bytes; 0: nobody sends to it
    least_retention: float = 0.0  # seconds; 0: nobody reads it
    routes: set[str] = field(default_factory=set)


class TopicWatch(Stage):
    """Looks at the topics of all routes; named ``topics``. Other threads ask and are called back.

    The lock guards ``_wanted`` and ``_seen``. ``on_change`` callbacks run in the stage's thread,
    without the lock.
    """

    def __init__(self, cluster: ClusterView, health: Health, *, create: bool) -> None:
        super().__init__("topics")
        self.brokers_known = 0
        self.brokers_up = 0
        self._cluster = cluster
        self._health = health
        self._create = create
        self._wanted: dict[str, Wanted] = {}
        self._seen: dict[str, Topic] = {}
        self._unusable: dict[str, KfdError] = {}
        self._lock = threading.Lock()
        self._look_now = threading.Event()
        self._on_change: list[Callable[[], None]] = []
        self._looks = 0

    def want(
        self, topic: str, route: str, *, chunk_size: int = 0, least_retention: float = 0.0
    ) -> None:
        """A route sends to ``topic`` (with this chunk size) or reads it. Any thread."""
        with self._lock:
            wanted = self._wanted.setdefault(topic, Wanted())
            wanted.routes.add(route)
            wanted.chunk_size = max(wanted.chunk_size, chunk_size)
            wanted.least_retention = max(wanted.least_retention, least_retention)
        self.look_soon()

    def usable(self, topic: str) -> Topic | None:
        """The topic as it was seen last, if it can be used. Any thread."""
        with self._lock:
            return self._seen.get(topic) if topic not in self._unusable else None

    def why_unusable(self, topic: str) -> KfdError | None:
        """Why a topic that exists can't be used, if that is so. Any thread."""
        with self._lock:
            return self._unusable.get(topic)

    def call_on_change(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after any topic has changed. Before :meth:`start` only."""
        self._on_change.append(callback)

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
            self.stopping.wait(
                LEAST_SECONDS
            )  # clients in trouble ask for looks many times a second
            self._look_now.wait(LOOK_SECONDS if complete else DEGRADED_LOOK_SECONDS)

    def _look(self) -> bool:
        """Look at everything once; true if every topic is usable and the brokers answer."""
        with self._lock:
            wanted = dict(self._wanted)
        try:
            self.brokers_known = self.brokers_up = self._cluster.brokers()
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
        return all(self.usable(name) for name in wanted)

    def _look_at_topics(self, wanted: dict[str, Wanted]) -> dict[str, Topic | None]:
        found = self._cluster.topics(wanted) if wanted else {}
        for name in [name for name, topic in found.items() if topic is None]:
            if self._create:
                self._make(name, wanted[name])
            else:
                self._report(
                    name, wanted[name], f"topic {name} does not exist", _create_command(name)
                )
        for name, topic in found.items():
            if topic is not None:
                found[name] = self._with_limits(topic)
        return found

    def _with_limits(self, topic: Topic) -> Topic:
        old = self._seen.get(topic.name)
        if (
            old is None
            or old.topic_id != topic.topic_id
            or topic.name in self._unusable
            or self._looks % LIMIT_LOOKS == 0
        ):
            return self._cluster.limits(topic)
        return Topic(
            *(topic.name, topic.topic_id, topic.partitions),
            *(old.max_record, old.compacted, old.retention),
        )

    def _make(self, name: str, wanted: Wanted) -> None:
        try:
            self._cluster.create(name)
        except BrokerAwayError:
            raise
        except KfdError as error:
            self._report(
                name,
                wanted,
                f"topic {name} does not exist and could not be made: {error}",
                _create_command(name),
            )
        else:
            log.info("made topic %s", name)
            self.look_soon()

    def _take_over(self, wanted: dict[str, Wanted], found: dict[str, Topic | None]) -> None:
        changed = False
        for name, topic in found.items():
            fault = _fault(topic, wanted[name]) if topic is not None else None
            with self._lock:
                changed |= self._seen.get(name) != topic or (
                    (fault is None) is (name in self._unusable)
                )
                if topic is None:
                    self._seen.pop(name, None)
                else:
                    self._seen[name] = topic
                if fault is None:
                    self._unusable.pop(name, None)
                else:
                    self._unusable[name] = fault
            if fault is not None:
                self._report(name, wanted[name], str(fault), fault.fix)
            elif topic is not None:
                self._clear(name, wanted[name])
                _warn_of_retention(topic, wanted[name], new=changed)
        if changed:
            for callback in self._on_change:
                callback()

    def _report(self, name: str, wanted: Wanted, text: str, fix: str) -> None:
        for route in wanted.routes:
            self._health.report(route, f"topic {name}", text, fix)

    def _clear(self, name: str, wanted: Wanted) -> None:
        for route in wanted.routes:
            self._health.clear(route, f"topic {name}")


def _create_command(name: str) -> str:
    return f"kafka-topics.sh --create --topic {name} --bootstrap-server ..., or create_topics: true"


def _fault(topic: Topic, wanted: Wanted) -> KfdError | None:
    """What keeps a topic that exists from being used."""
    if topic.compacted:
        return KfdError(
            f"topic {topic.name} is compacted: it would lose chunks",
            fix=f"set cleanup.policy=delete on {topic.name}, or use another topic",
        )
    needed = wanted.chunk_size + RECORD_OVERHEAD if wanted.chunk_size else 0
    if topic.max_record is not None and needed > topic.max_record:
        fitting = 1 << max(10, (topic.max_record - RECORD_OVERHEAD).bit_length() - 1)
        return KfdError(
            f"{topic.name} takes {topic.max_record} bytes a record,"
            f" chunk_size {wanted.chunk_size} does not fit",
            fix=f"chunk_size: {fitting // 1024}KiB, or a larger max.message.bytes on the topic",
        )
    return None


def _warn_of_retention(topic: Topic, wanted: Wanted, *, new: bool) -> None:
    if new and topic.retention is not None and topic.retention < wanted.least_retention:
        log.warning(
            "topic %s keeps records for %d s; at least %d s are wise, or a receiver that was away"
            " loses files",
            *(topic.name, topic.retention, wanted.least_retention),
        )
