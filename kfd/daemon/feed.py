"""The feed: which file is read next.

It takes transfers from the ledger's queue in small numbers, fixes their partition there before
anything is produced, and deals out turns to the producer threads. Each (route, topic) has a lane
for files of one record and one for larger ones, served in rotation, so that neither a backlog nor
a huge file starves a new or small one. Memory does not grow with the queue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kfd.daemon.ledger import Ledger, outgoing
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Claim, Outgoing, Waiting
from kfd.daemon.placement import Placement
from kfd.daemon.resume import SETTLE_SECONDS, Resumption, version_now
from kfd.daemon.sending import Sending
from kfd.daemon.stage import Stage
from kfd.daemon.topics import TopicWatch
from kfd.kafka import Topic

log = logging.getLogger(__name__)

SMALL_AHEAD = 512  # small files of a lane taken from the ledger ahead of their turn
TURN_FILES = 64  # small files a turn
TURN_BYTES = 4 * 1024 * 1024
RESCAN_SECONDS = 5.0  # the longest that a transfer that became due goes unseen
RETRY_SECONDS = 1.0  # before an interrupted transfer goes on


@dataclass(slots=True, eq=False)
class Lane:
    """The files of one route and topic that are being sent or about to be."""

    route: str
    topic: str
    rate: float | None  # bytes a second
    small: deque[Sending] = field(default_factory=deque)
    large: deque[Sending] = field(default_factory=deque)
    large_open: int = 0  # large files taken from the ledger and not ended
    more: list[bool] = field(default_factory=lambda: [True, True])  # the ledger may have more
    newest_next: bool = True  # where there is room for one: the oldest and the newest in turn
    free_at: float = 0.0  # monotonic time at which the rate limit lets the next turn begin

    def spend(self, size: int, now: float) -> None:
        """Count bytes against the rate limit."""
        if self.rate is not None:
            self.free_at = max(self.free_at, now) + size / self.rate


@dataclass(slots=True)
class Turn:
    """Some chunks of some files: what a producer thread does before it asks again."""

    lane: Lane
    kind: int  # SMALL or LARGE
    sendings: list[Sending]
    max_records: int
    records: int
    size: int  # bytes


class Feed(Stage):
    """Named ``feed``. Producer threads call :meth:`take` and :meth:`give_back`.

    The condition's lock guards the lanes, ``_rotation``, ``_large_turns``, ``_active``,
    ``_placements`` and ``_resume_at``.
    """

    def __init__(
        self, ledger: Ledger, topics: TopicWatch, resumption: Resumption, *,
        chunk_size: int, threads: int, queue_size: int,
    ) -> None:  # fmt: skip
        super().__init__("feed")
        self._ledger = ledger
        self._topics = topics
        self._resumption = resumption
        self._chunk_size = chunk_size
        self._turn_bytes = max(chunk_size, min(TURN_BYTES, queue_size // 8))
        self._max_large = max(1, threads - 1)  # one thread is left to the small ones
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._rotation: deque[tuple[Lane, int]] = deque()
        self._large_turns = 0
        self._active: set[int] = set()
        self._placements: dict[str, Placement] = {}
        self._changed = threading.Condition()
        self._due = threading.Event()
        self._resume_at = 0.0  # monotonic; when to look for interrupted transfers

    def add_lane(self, route: str, topic: str, rate: float | None = None) -> None:
        """Make a lane, if it isn't there. Any thread."""
        with self._changed:
            if (route, topic) not in self._lanes:
                lane = self._lanes[route, topic] = Lane(route, topic, rate)
                self._rotation.extend(((lane, SMALL), (lane, LARGE)))
        self._due.set()

    def accepted(self, route: str, topic: str) -> None:
        """The ledger has new transfers for a lane. Any thread."""
        with self._changed:
            lane = self._lanes.get((route, topic))
            if lane is not None:
                lane.more = [True, True]
        self._due.set()

    def topics_changed(self) -> None:
        """A topic may have become usable. Called by the topic watch."""
        with self._changed:
            self._resume_at = 0.0
        self._due.set()

    def released(self, ended: Iterable[Sending], *, resume: bool = False) -> None:
        """These are over, or (``resume``) are to be taken from the ledger again. Deliveries."""
        with self._changed:
            for sending in ended:
                self._active.discard(sending.row.id)
                lane = self._lanes[sending.row.route, sending.row.topic]
                lane.large_open -= sending.row.lane == LARGE
                if placement := self._placements.get(sending.row.topic):
                    placement.add(sending.partition, -sending.begin.size)
            if resume:
                self._resume_at = time.monotonic() + RETRY_SECONDS
        self._due.set()

    def take(self, timeout: float) -> Turn | None:
        """The next turn; None after ``timeout`` seconds without one. Producer threads."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.stopping.is_set():
                now = time.monotonic()
                turn = self._next_turn(now)
                if turn is not None:
                    return turn
                pause = min(deadline, self._next_free(now)) - now
                if now >= deadline:
                    return None
                self._changed.wait(max(0.001, pause))
        return None

    def give_back(self, turn: Turn, unfinished: list[Sending]) -> None:
        """A turn is over; these of its files want another one. Producer threads."""
        with self._changed:
            if turn.kind == LARGE:
                self._large_turns -= 1
                turn.lane.large.extend(unfinished)
            else:
                turn.lane.small.extendleft(reversed(unfinished))
            low = len(turn.lane.small) < SMALL_AHEAD // 2
            self._changed.notify()
        if low:
            self._due.set()

    def unfinished(self) -> list[Sending]:
        """Files that wait for their next turn, once the feed and the producers have stopped."""
        with self._changed:
            return [s for lane in self._lanes.values() for s in (*lane.large, *lane.small)]

    def wake(self) -> None:
        self._due.set()
        with self._changed:
            self._changed.notify_all()

    def run(self) -> None:
        while not self.stopping.is_set():
            self._due.clear()
            self._fill_all()
            self.beat()
            if not self._due.wait(min(RESCAN_SECONDS, self._until_resume())):
                self._look_at_all()

    def _until_resume(self) -> float:
        with self._changed:
            return max(0.0, self._resume_at - time.monotonic())

    def _look_at_all(self) -> None:
        with self._changed:
            for lane in self._lanes.values():
                lane.more = [True, True]

    def _fill_all(self) -> None:
        with self._changed:
            lanes = list(self._lanes.values())
            resume = self._resume_at <= time.monotonic()
        if resume:
            self._resume_interrupted()
        for lane in lanes:
            for kind in (SMALL, LARGE):
                if not self.stopping.is_set():
                    self._fill(lane, kind)

    def _resume_interrupted(self) -> None:
        """Take up what an earlier life, or a producer that was replaced, had begun."""
        with self._changed:
            active = self._active.copy()  # before the look: what ends after it is in neither
            self._resume_at = float("inf")
        rows = [r for r in outgoing.sending(self._ledger.reader()) if r.id not in active]
        if rows:  # some may have to wait for their topic
            with self._changed:
                self._resume_at = min(self._resume_at, time.monotonic() + RESCAN_SECONDS)
        for row in self._resumption.resumable(rows):
            with self._changed:
                topic = self._topics.sendable(row.topic)
                if topic is not None and row.partition is not None:
                    self._placement(topic).add(row.partition, row.size)
            self._admit([row], resumed=True)

    def _fill(self, lane: Lane, kind: int) -> None:
        """Claim the next transfers of a lane in the ledger, and admit them."""
        topic = self._topics.sendable(lane.topic)
        with self._changed:
            ahead, limit = self._room(lane, kind)
            if topic is None or not lane.more[kind] or ahead >= limit:
                return
            lane.more[kind] = False  # before the look, so that what comes after is seen
        waiting = self._waiting(lane, kind, limit - ahead)
        if not waiting:
            return
        waiting = self._settled(waiting)
        with self._changed:
            claims = self._claims(waiting, self._placement(topic))
        claimed = self._ledger.write_patiently(lambda db: outgoing.claim(db, claims))
        self._unload(waiting, claims, claimed)
        self._admit(
            [
                replace(
                    one.outgoing,
                    topic_id=claim.topic_id,
                    partition=claim.partition,
                    chunk_size=claim.chunk_size,
                )
                for one, claim in zip(waiting, claims, strict=True)
                if claim.id in claimed
            ]
        )
        with self._changed:
            lane.more[kind] = True  # until a look finds none
        self._due.set()

    def _unload(self, waiting: list[Waiting], claims: list[Claim], claimed: set[int]) -> None:
        """Discount what was cancelled between the look and the claim."""
        with self._changed:
            for one, claim in zip(waiting, claims, strict=True):
                if claim.id not in claimed:
                    self._placements[claim.topic].add(claim.partition, -one.outgoing.size)

    def _settled(self, waiting: list[Waiting]) -> list[Waiting]:
        """Without the files that changed again while they were given time to settle."""
        return [one for one in waiting if not (one.outgoing.not_before and self._postponed(one))]

    def _postponed(self, one: Waiting) -> bool:
        row = one.outgoing
        now = version_now(row)
        if now is None or (now.size, now.mtime_ns, now.inode) == (
            row.size,
            row.mtime_ns,
            row.inode,
        ):
            return False
        due = time.time() + SETTLE_SECONDS
        self._ledger.write_patiently(
            lambda db: outgoing.postpone(db, row, now, self._chunk_size, due)
        )
        return True

    def _placement(self, topic: Topic) -> Placement:
        placement = self._placements.get(topic.name)
        shape = (topic.topic_id, topic.partitions)
        if placement is None or (placement.topic_id, placement.partitions) != shape:
            placement = self._placements[topic.name] = Placement(*shape)
        return placement

    def _room(self, lane: Lane, kind: int) -> tuple[int, int]:
        if kind == SMALL:
            return len(lane.small), SMALL_AHEAD
        return lane.large_open, self._max_large

    def _waiting(self, lane: Lane, kind: int, limit: int) -> list[Waiting]:
        """The oldest, and where there are more than fit, as many of the newest."""
        reader = self._ledger.reader()
        if limit == 1:
            lane.newest_next = not lane.newest_next
            return outgoing.waiting(
                reader, lane.route, lane.topic, kind, newest=lane.newest_next, limit=1
            )
        oldest = outgoing.waiting(
            reader, lane.route, lane.topic, kind, newest=False, limit=limit
        )  # fmt: skip
        if len(oldest) < limit:
            return oldest
        newest = outgoing.waiting(
            reader, lane.route, lane.topic, kind, newest=True, limit=limit // 2
        )  # fmt: skip
        chosen = {one.outgoing.id: one for one in oldest[: limit - len(newest)] + newest}
        return list(chosen.values())

    def _claims(self, waiting: list[Waiting], placement: Placement) -> list[Claim]:
        chosen: dict[bytes, int] = {}  # two versions of a path lie in one partition
        claims = []
        for one in waiting:
            row = one.outgoing
            partition = chosen.get(row.path)
            if partition is None:
                partition = placement.choose(one.topic_id, one.partition)
                chosen[row.path] = partition
            placement.add(partition, row.size)
            claims.append(
                Claim(row.id, row.topic, row.path, placement.topic_id, partition, self._chunk_size)
            )
        return claims

    def _admit(self, rows: list[Outgoing], *, resumed: bool = False) -> None:
        """Let the producers have these; their partition and chunk size are in the ledger."""
        origin, instance = self._ledger.origin, self._ledger.instance
        sendings = [Sending(row, origin, instance, resumed=resumed) for row in rows]
        with self._changed:
            for sending in sendings:
                row = sending.row
                lane = self._lanes[row.route, row.topic]
                self._active.add(row.id)
                if row.lane == LARGE:
                    lane.large.append(sending)
                    lane.large_open += 1
                else:
                    lane.small.append(sending)
            self._changed.notify_all()

    def _next_turn(self, now: float) -> Turn | None:
        """The turn of the first lane in the rotation that has one; it goes to the end."""
        for position, (lane, kind) in enumerate(self._rotation):
            if lane.free_at > now:
                continue
            turn = self._small_turn(lane) if kind == SMALL else self._large_turn(lane)
            if turn is not None:
                lane.spend(turn.size, now)
                del self._rotation[position]
                self._rotation.append((lane, kind))
                return turn
        return None

    def _next_free(self, now: float) -> float:
        """When the next lane that its rate limit holds back may go on."""
        times = [lane.free_at for lane in self._lanes.values() if lane.free_at > now]
        return min(times, default=float("inf"))

    def _small_turn(self, lane: Lane) -> Turn | None:
        if not lane.small:
            return None
        turn = Turn(lane, SMALL, [], 1 << 30, 0, 0)
        while lane.small and turn.records < TURN_FILES:
            records, size = lane.small[0].remaining()
            if turn.sendings and turn.size + size > self._turn_bytes:
                break
            turn.sendings.append(lane.small.popleft())
            turn.records += records
            turn.size += size
        return turn

    def _large_turn(self, lane: Lane) -> Turn | None:
        if not lane.large or self._large_turns >= self._max_large:
            return None
        self._large_turns += 1
        sending = lane.large.popleft()
        left, left_size = sending.remaining()
        chunk_size = sending.begin.chunk_size
        records = min(left, max(1, self._turn_bytes // chunk_size))
        return Turn(lane, LARGE, [sending], records, records, min(left_size, records * chunk_size))
