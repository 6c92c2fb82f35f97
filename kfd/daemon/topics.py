"""The topic watch: the stage that knows which topics can be used now, and why others can't.

A topic that is missing, a broker that is away or a limit that doesn't fit degrades the routes that
need it, and nothing else; looks go on until it is mended. What was seen last stays valid while no
broker answers: librdkafka reconnects by itself, and nothing sent in between is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kfd.daemon.health import Health
from kfd.daemon.stage import Stage
from kfd.errors import KfdError
from kfd.kafka import (
    RECORD_OVERHEAD,
    BrokerAwayError,
    ClusterView,
    Topic,
    TopicRefusedError,
)
from kfd.receipts import topic_of

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
    senders: set[str] = field(default_factory=set)  # routes
    readers: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)  # routes that read receipts on it
    telling: set[str] = field(default_factory=set)  # routes that send receipts to it

    def copy(self) -> Wanted:
        """One that no other thread adds to."""
        return replace(
            self,
            senders=self.senders.copy(),
            readers=self.readers.copy(),
            told=self.told.copy(),
            telling=self.telling.copy(),
        )

    @property
    def routes(self) -> set[str]:
        """Those that can't work without it."""
        return self.senders | self.readers


@dataclass(frozen=True, slots=True)
class Seen:
    """A topic as it was seen last, and what keeps it from being read, or from being sent to."""

    topic: Topic
    reading_fault: KfdError | None
    sending_fault: KfdError | None


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
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._look_now = threading.Event()
        self._on_change: list[Callable[[], None]] = []
        self._before_sending: list[Callable[[Topic], None]] = []
        self._looks = 0

    def want_to_send(self, topic: str, route: str, chunk_size: int) -> None:
        """A route sends to ``topic`` in chunks of this many bytes. Any thread."""
        with self._lock:
            wanted = self._wanted.setdefault(topic, Wanted())
            wanted.senders.add(route)
            wanted.chunk_size = max(wanted.chunk_size, chunk_size)
        self.look_soon()

    def want_to_read(self, topic: str, route: str, least_retention: float) -> None:
        """A route reads ``topic``, which had better keep records this long (seconds)."""
        with self._lock:
            wanted = self._wanted.setdefault(topic, Wanted())
            wanted.readers.add(route)
            wanted.least_retention = max(wanted.least_retention, least_retention)
        self.look_soon()

    def want_receipts(self, topic: str, route: str, *, sending: bool) -> None:
        """A route sends receipts about the files on ``topic``, or reads them. It works without:
        where they are to be sent, but can't be, is said. Any thread."""
        name = topic_of(topic)
        if name is None:
            return
        with self._lock:
            wanted = self._wanted.setdefault(name, Wanted())
            routes = wanted.telling if sending else wanted.told
            if route in routes:
                return
            routes.add(route)
        self.look_soon()

    def receipts(self, topic: str) -> Topic | None:
        """The topic for receipts about the files on ``topic``, if it can be used. Any thread."""
        name = topic_of(topic)
        return None if name is None else self.readable(name)

    def readable(self, topic: str) -> Topic | None:
        """The topic as it was seen last, if it can be read. Any thread."""
        with self._lock:
            seen = self._seen.get(topic)
        return seen.topic if seen is not None and seen.reading_fault is None else None

    def sendable(self, topic: str) -> Topic | None:
        """The topic as it was seen last, if it can be sent to. Any thread."""
        with self._lock:
            seen = self._seen.get(topic)
        return seen.topic if seen is not None and seen.sending_fault is None else None

    def why_not_sendable(self, topic: str) -> KfdError | None:
        """Why a topic that exists can't be sent to, if that is so. Any thread."""
        with self._lock:
            seen = self._seen.get(topic)
        return seen.sending_fault if seen is not None else None

    def call_before_sending(self, callback: Callable[[Topic], None]) -> None:
        """Have ``callback`` called before a topic counts as sendable. Before :meth:`start`."""
        self._before_sending.append(callback)

    def call_on_change(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after any topic has changed. Before :meth:`start`."""
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
            wanted = {name: one.copy() for name, one in self._wanted.items()}
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

    def _look_at_topics(self, wanted: dict[str, Wanted]) -> dict[str, Topic | None]:
        answers = self._cluster.topics(wanted) if wanted else {}
        found: dict[str, Topic | None] = {}
        for name, answer in answers.items():
            found[name] = self._with_limits(answer) if isinstance(answer, Topic) else None
            if isinstance(answer, TopicRefusedError):
                self._report(name, wanted[name], str(answer), answer.fix)
            elif answer is None:
                self._miss(name, wanted[name])
        return found

    def _miss(self, name: str, wanted: Wanted) -> None:
        """A topic doesn't exist: make it, or say so."""
        if not wanted.routes and not wanted.telling:
            return  # receipts that nobody has sent yet
        if self._create:
            self._make(name, wanted)
        else:
            self._report(name, wanted, f"topic {name} does not exist", _create_command(name))

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
            seen = None if topic is None else _judge(topic, wanted[name])
            if seen is not None:
                self._prepare(seen, wanted[name])
                _warn_of_retention(seen.topic, wanted[name], self._seen.get(name))
            with self._lock:
                changed |= _differs(self._seen.get(name), seen)
                if seen is None:
                    self._seen.pop(name, None)
                else:
                    self._seen[name] = seen
            if seen is not None:
                self._tell(seen, wanted[name])
        if changed:
            for callback in self._on_change:
                callback()

    def _prepare(self, seen: Seen, wanted: Wanted) -> None:
        if wanted.senders and seen.sending_fault is None:
            for callback in self._before_sending:
                callback(seen.topic)

    def _tell(self, seen: Seen, wanted: Wanted) -> None:
        """Let the routes of a topic that exists be well, or say what is wrong."""
        name = seen.topic.name
        faults = ((wanted.senders, seen.sending_fault), (wanted.readers, seen.reading_fault))
        for routes, fault in faults:
            for route in routes:
                if fault is None:
                    self._health.clear(route, f"topic {name}")
                else:
                    self._health.report(route, f"topic {name}", str(fault), fault.fix)
        if seen.reading_fault is None:
            for route in wanted.told | wanted.telling:
                self._health.clear(route, f"receipts {name}")
        else:
            self._note(name, wanted, str(seen.reading_fault), seen.reading_fault.fix)

    def _report(self, name: str, wanted: Wanted, text: str, fix: str) -> None:
        for route in wanted.routes:
            self._health.report(route, f"topic {name}", text, fix)
        self._note(name, wanted, text, fix)

    def _note(self, name: str, wanted: Wanted, text: str, fix: str) -> None:
        """Without receipts files move all the same, but no sender calls them delivered."""
        for route in wanted.told | wanted.telling:
            self._health.note(
                route, f"receipts {name}", f"no receipts: {text}",
                f"{fix}; without it files are moved, but not called delivered",
            )  # fmt: skip


def _create_command(name: str) -> str:
    return f"kafka-topics.sh --create --topic {name} --bootstrap-server ..., or create_topics: true"


def _judge(topic: Topic, wanted: Wanted) -> Seen:
    """What keeps a topic that exists from being used, if anything does."""
    fault = None
    if topic.compacted:
        fault = KfdError(
            f"topic {topic.name} is compacted: it would lose chunks",
            fix=f"set cleanup.policy=delete on {topic.name}, or use another topic",
        )
    return Seen(topic, fault, fault or _size_fault(topic, wanted.chunk_size))


def _size_fault(topic: Topic, chunk_size: int) -> KfdError | None:
    if topic.max_record is None or chunk_size + RECORD_OVERHEAD <= topic.max_record:
        return None
    room = (topic.max_record - RECORD_OVERHEAD) // 1024  # KiB
    advice = f"chunk_size: {1 << (room.bit_length() - 1)}KiB, or " if room > 0 else ""
    return KfdError(
        f"{topic.name} takes {topic.max_record} bytes a record,"
        f" chunk_size {chunk_size} does not fit",
        fix=f"{advice}a larger max.message.bytes on the topic",
    )


def _differs(old: Seen | None, new: Seen | None) -> bool:
    if old is None or new is None:
        return old is not new
    return old.topic != new.topic or (old.sending_fault is None) is not (new.sending_fault is None)


def _warn_of_retention(topic: Topic, wanted: Wanted, before: Seen | None) -> None:
    """Once for each topic: how long it keeps records is for its administrator to say."""
    if before is not None and before.topic.topic_id == topic.topic_id:
        return
    if topic.retention is not None and topic.retention < wanted.least_retention:
        log.warning(
            "topic %s keeps records for %d s; at least %d s are wise, or a receiver that was away"
            " loses files (fix: raise its retention.ms)",
            *(topic.name, topic.retention, wanted.least_retention),
        )
