"""A feed over a real ledger and a cluster that is only memory."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager

from kfd.daemon.fileversion import FileVersion
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, accepting, endings, outgoing
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.outgoing.feed import Feed
from kfd.daemon.outgoing.lanes import Turn
from kfd.daemon.outgoing.resume import Resumption
from kfd.daemon.outgoing.sending import Sending
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import BrokerAwayError, Topic
from tests.parts import running, version

CHUNK = 1024


TURN_BYTES = 8 * CHUNK


PARTITIONS = 8


class Cluster:
    """Low watermarks as a test sets them."""

    def __init__(self) -> None:
        self.lows: dict[tuple[str, int], int] = {}
        self.away = False
        self.asked = 0

    def low_watermarks(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        self.asked += 1
        if self.away:
            raise BrokerAwayError("away")
        return {one: self.lows.get(one, 0) for one in partitions}


class Feeding:
    """A feed with all that stands around it; the test is the producers and the deliveries."""

    def __init__(
        self, ledger: Ledger, threads: int, paused: Container[str] = (), **options: int
    ) -> None:
        self.ledger = ledger
        self.cluster = Cluster()
        self.topics = TopicWatch(self.cluster, Health(), create=False)  # type: ignore[arg-type]
        self.aborted: list[bytes] = []
        resumption = Resumption(
            ledger, self.topics, self.cluster,  # type: ignore[arg-type]
            lambda sending: self.aborted.append(sending.row.tid),
        )  # fmt: skip
        settings = {"chunk_size": CHUNK, "queue_size": 8 * TURN_BYTES} | options
        self.feed = Feed(
            ledger, self.topics, resumption, threads=threads, paused=paused, **settings
        )
        self.topics.call_on_change(self.feed.topics_changed)

    def show(self, topic: Topic | None, name: str = "t") -> None:
        """The topic watch sees this topic now."""
        self.topics.want_to_send(name, "lab", CHUNK)
        self.topics._take_over(self.topics._needs.all(), {name: topic})

    def accept(self, *versions: FileVersion, route: str = "lab", topic: str = "t") -> list[bytes]:
        offer = Offer(route, topic, versions, CHUNK, {})
        accepted = self.ledger.write(lambda db: accepting.accept(db, offer))
        self.feed.add_lane(route, topic)
        self.feed.accepted(route, topic)
        return [one.tid for one in accepted if one.tid is not None]

    def take(self) -> Turn:
        turn = self.feed.take(30)
        assert turn is not None
        return turn

    def idle(self) -> bool:
        """Whether there is no turn to take."""
        turn = self.feed.take(0.05)
        if turn is not None:
            self.feed.give_back(turn, turn.sendings)
        return turn is None

    def serve(self, turn: Turn, *, end: bool = True) -> list[Sending]:
        """Send what a turn allows, as if acknowledged at once; the files that are done."""
        for sending in turn.sendings:
            left = sending.begin.chunks - sending.next_index
            sending.next_index += min(left, turn.max_records)
        done = [one for one in turn.sendings if one.read_to_end]
        self.feed.give_back(turn, [one for one in turn.sendings if one not in done])
        if end:
            self.end(done)
        return done

    def serve_all(self) -> Iterator[Sending]:
        """Send until nothing is queued or being sent."""
        deadline = time.monotonic() + 60
        while outgoing.destinations(self.ledger.reader()):
            assert time.monotonic() < deadline
            turn = self.feed.take(0.1)
            if turn is not None:
                yield from self.serve(turn)

    def end(self, done: list[Sending]) -> None:
        batch = [Ending(one.row, "in_kafka", one.acked) for one in done]
        self.ledger.write(lambda db: endings.end(db, batch))
        self.feed.released(done)

    def row(self, tid: bytes) -> tuple[str, int | None]:
        row: tuple[str, int | None] = (
            self.ledger.reader()
            .execute("SELECT state, partition FROM outgoing WHERE tid = ?", (tid,))
            .fetchone()
        )
        return row


TOPIC = Topic("t", "topic-1", PARTITIONS)


@contextmanager
def feeding(
    ledger: Ledger, threads: int = 3, paused: Container[str] = (), **options: int
) -> Iterator[Feeding]:
    one = Feeding(ledger, threads, paused, **options)
    one.feed.add_lane("lab", "t")
    one.show(TOPIC)
    with running(one.feed):
        yield one


def small(n: int) -> FileVersion:
    return version(b"small/%d" % n, size=10)


def large(n: int, chunks: int = 100) -> FileVersion:
    return version(b"large/%d" % n, size=chunks * CHUNK)


def paths(turn: Turn) -> list[bytes]:
    return [one.row.path for one in turn.sendings]
