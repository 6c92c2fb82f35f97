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
from collections.abc import Container, Iterable

from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import Ledger, endings, outgoing
from kfd.daemon.ledger.outgoing import LARGE, SMALL, Claim, Outgoing
from kfd.daemon.outgoing.formats import sending_of
from kfd.daemon.outgoing.lanes import Lane, Lanes, Turn
from kfd.daemon.outgoing.placement import Placement
from kfd.daemon.outgoing.resume import SETTLE_SECONDS, Resumption, version_now
from kfd.daemon.outgoing.sending import Sending
from kfd.daemon.stage import Stage
from kfd.daemon.topics.topics import TopicWatch
from kfd.kafka import Topic

log = logging.getLogger(__name__)

TURN_BYTES = 4 * 1024 * 1024
CLAIM_FILES = 512  # claimed at once, so that the first of many needn't wait for the last
RESCAN_SECONDS = 5.0  # the longest that a transfer that became due goes unseen
RETRY_SECONDS = 1.0  # before an interrupted transfer goes on


class Feed(Stage):
    """Named ``feed``. Producer threads call :meth:`take` and :meth:`give_back`.

    The condition's lock guards ``_lanes``, ``_active``, ``_withdrawn``, ``_placements`` and
    ``_resume_at``.
    """

    def __init__(
        self, ledger: Ledger, topics: TopicWatch, resumption: Resumption, *,
        chunk_size: int, threads: int, queue_size: int, paused: Container[str] = (),
    ) -> None:  # fmt: skip
        """``paused``: routes of which nothing is given out."""
        super().__init__("feed")
        self.chunk_size = chunk_size  # bytes; of what is begun from now on. Any thread may set it
        self._ledger = ledger
        self._topics = topics
        self._resumption = resumption
        self._lanes = Lanes(
            turn_bytes=max(chunk_size, min(TURN_BYTES, queue_size // 8)),
            max_large=max(1, threads - 1),  # one thread is left to the small ones
            paused=paused,
        )
        self._paused = paused
        self._active: dict[int, Sending] = {}  # by id
        self._withdrawn: dict[int, bool] = {}  # id → whether the ledger has that it is cancelled
        self._placements: dict[str, Placement] = {}
        self._changed = threading.Condition()
        self._due = threading.Event()
        self._resume_at = 0.0  # monotonic; when to look for interrupted transfers

    def add_lane(self, route: str, topic: str, rate: float | None = None) -> None:
        """Make a lane, if it isn't there. Any thread."""
        with self._changed:
            self._lanes.add(route, topic, rate)
        self._due.set()

    def limit(self, route: str, topic: str, rate: float | None) -> None:
        """Give a lane another rate limit (bytes a second; None: none). Any thread."""
        with self._changed:
            self._lanes.limit(route, topic, rate)
            self._changed.notify_all()

    def accepted(self, route: str, topic: str) -> None:
        """The ledger has new transfers for a lane. Any thread."""
        with self._changed:
            self._lanes.lane(route, topic).more = [True, True]
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
                self._active.pop(sending.row.id, None)
                self._lanes.over(sending)
                if placement := self._placements.get(sending.row.topic):
                    placement.add(sending.partition, -sending.begin.size)
            if resume:
                self._resume_at = time.monotonic() + RETRY_SECONDS
        self._due.set()

    def resumed(self) -> None:
        """Routes that were paused go on. Any thread."""
        self._look_at_all()
        self.topics_changed()

    def withdraw(self, number: int) -> Sending | None:
        """Let nobody begin this transfer any more; what of it is with the producers, if it is. Call
        :meth:`withdrawn` as soon as the ledger has that it is cancelled, or can't. Any thread."""
        with self._changed:
            self._withdrawn[number] = False
            return self._active.get(number)

    def withdrawn(self, number: int) -> None:
        """The ledger decides about this transfer again. Any thread."""
        with self._changed:
            self._withdrawn[number] = True
            self._resume_at = 0.0  # if it could not be cancelled, it goes on
        self._due.set()

    def in_flight(self, routes: Container[str]) -> int:
        """How many files of these routes have records on their way, or are having a turn."""
        with self._changed:
            waiting = {s for lane in self._lanes for s in (*lane.large, *lane.small) if s.settled}
            return sum(
                one.row.route in routes and one not in waiting for one in self._active.values()
            )

    def take(self, timeout: float) -> Turn | None:
        """The next turn; None after ``timeout`` seconds without one. Producer threads."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.stopping.is_set():
                now = time.monotonic()
                turn = self._lanes.next_turn(now)
                if turn is not None:
                    return turn
                pause = min(deadline, self._lanes.next_free(now)) - now
                if now >= deadline:
                    return None
                self._changed.wait(max(0.001, pause))
        return None

    def give_back(self, turn: Turn, unfinished: list[Sending]) -> None:
        """A turn is over; these of its files want another one. Producer threads."""
        with self._changed:
            low = self._lanes.give_back(turn, unfinished)
            self._changed.notify()
        if low:
            self._due.set()

    def unfinished(self) -> list[Sending]:
        """Files that wait for their next turn, once the feed and the producers have stopped."""
        with self._changed:
            return [s for lane in self._lanes for s in (*lane.large, *lane.small)]

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
            for lane in self._lanes:
                lane.more = [True, True]

    def _fill_all(self) -> None:
        with self._changed:
            # no look at the ledger from before it was told is being acted on
            self._withdrawn = {one: told for one, told in self._withdrawn.items() if not told}
            lanes = list(self._lanes)
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
            active = set(self._active)  # before the look: what ends after it is in neither
            self._resume_at = float("inf")
        rows = [r for r in outgoing.sending(self._ledger.reader()) if r.id not in active]
        if rows:  # some may have to wait for their topic
            with self._changed:
                self._resume_at = min(self._resume_at, time.monotonic() + RESCAN_SECONDS)
        for row in self._resumption.resumable([r for r in rows if r.route not in self._paused]):
            with self._changed:
                topic = self._topics.sendable(row.topic)
                if topic is not None and row.partition is not None:
                    self._placement(topic).add(row.partition, row.size)
            self._admit([row], resumed=True)

    def _fill(self, lane: Lane, kind: int) -> None:
        """Claim the next transfers of a lane in the ledger, and admit them."""
        topic = self._topics.sendable(lane.topic)
        with self._changed:
            room = self._lanes.room(lane, kind)
            if topic is None or not lane.more[kind] or room <= 0 or lane.route in self._paused:
                return
            lane.more[kind] = False  # before the look, so that what comes after is seen
        rows = self._waiting(lane, kind, min(room, CLAIM_FILES))
        if not rows:
            return
        rows = [row for row in rows if not (row.not_before and self._postponed(row))]
        with self._changed:
            claims = self._place(rows, self._placement(topic))
        claimed = self._ledger.write_patiently(lambda db: outgoing.claim(db, claims))
        reach("sender.claimed")
        self._unload([row for row in rows if row.id not in claimed])
        self._admit([row for row in rows if row.id in claimed])
        with self._changed:
            lane.more[kind] = True  # until a look finds none
        self._due.set()

    def _unload(self, rows: Iterable[Outgoing]) -> None:
        """Discount what was cancelled since the look."""
        with self._changed:
            for row in rows:
                assert row.partition is not None
                self._placements[row.topic].add(row.partition, -row.size)

    def _postponed(self, row: Outgoing) -> bool:
        """Whether a file changed again while it was given time to settle; it gets more then."""
        now = version_now(row)
        if now is None or (now.size, now.mtime_ns, now.inode) == (
            row.size,
            row.mtime_ns,
            row.inode,
        ):
            return False
        due = time.time() + SETTLE_SECONDS
        self._ledger.write_patiently(
            lambda db: endings.postpone(db, row, now, self.chunk_size, due)
        )
        return True

    def _placement(self, topic: Topic) -> Placement:
        placement = self._placements.get(topic.name)
        shape = (topic.topic_id, topic.partitions)
        if placement is None or (placement.topic_id, placement.partitions) != shape:
            placement = self._placements[topic.name] = Placement(*shape)
        return placement

    def _waiting(self, lane: Lane, kind: int, limit: int) -> list[Outgoing]:
        """The oldest, and where there are more than fit, as many of the newest."""
        reader = self._ledger.reader()
        where = (lane.route, lane.topic, kind)
        if limit == 1:
            lane.newest_next = not lane.newest_next
            return outgoing.waiting(reader, *where, newest=lane.newest_next, limit=1)
        oldest = outgoing.waiting(reader, *where, newest=False, limit=limit)
        if len(oldest) < limit:
            return oldest
        newest = outgoing.waiting(reader, *where, newest=True, limit=limit // 2)
        chosen = {row.id: row for row in oldest[: limit - len(newest)] + newest}
        return list(chosen.values())

    def _place(self, rows: Iterable[Outgoing], placement: Placement) -> list[Claim]:
        """Give each its partition; two versions of a path lie in one."""
        chosen: dict[bytes, int] = {}
        claims = []
        for row in rows:
            before = (row.topic_id, row.partition)
            partition = chosen.get(row.path)
            row.again = row.partition is not None or partition is not None
            if partition is None:
                partition = chosen[row.path] = placement.choose(*before)
            placement.add(partition, row.size)
            row.topic_id, row.partition = now = (placement.topic_id, partition)
            row.chunk_size = self.chunk_size
            claims.append(
                Claim(row.id, row.topic, row.path, *now, row.chunk_size, moved=now != before)
            )
        return claims

    def _admit(self, rows: list[Outgoing], *, resumed: bool = False) -> None:
        """Let the producers have these; their partition and chunk size are in the ledger."""
        origin, instance = self._ledger.origin, self._ledger.instance
        sendings = [sending_of(row, origin, instance, resumed=resumed) for row in rows]
        with self._changed:
            for sending in sendings:
                if sending.row.id in self._withdrawn:
                    self._unload([sending.row])
                    continue
                self._active[sending.row.id] = sending
                self._lanes.put(sending)
            self._changed.notify_all()
