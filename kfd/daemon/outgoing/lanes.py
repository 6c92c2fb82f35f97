"""Lanes and turns: how the feed shares the producer threads out among routes, topics and sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from kfd.daemon.ledger.outgoing import LARGE, SMALL
from kfd.daemon.outgoing.sending import Sending

SMALL_AHEAD = 2048  # small files of a lane taken from the ledger ahead of their turn
TURN_FILES = 64  # small files a turn
JOIN_SECONDS = 0.02  # for which a turn of small files is left to one thread


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

    def refund(self, size: int) -> None:
        """These bytes were counted, and not sent: the file was only read."""
        if self.rate is not None:
            self.free_at -= size / self.rate


@dataclass(slots=True)
class Turn:
    """Some chunks of some files: what a producer thread does before it asks again."""

    lane: Lane
    kind: int  # SMALL or LARGE
    sendings: list[Sending]
    max_records: int
    records: int
    size: int  # bytes
    begun: float = 0.0  # monotonic
    unused: int = 0  # bytes that were not sent after all


class Lanes:
    """All lanes and whose turn is next. Pure state; the feed's lock guards it."""

    def __init__(self, turn_bytes: int, max_large: int, paused: Container[str] = ()) -> None:
        """``max_large``: turns of large files at a time, and large files of a lane ahead;
        ``paused``: routes that have no turns."""
        self._turn_bytes = turn_bytes
        self._max_large = max_large
        self._paused = paused
        self._large_turns = 0
        # When the turns of small files began that are under way. Another thread joins only where
        # these last: with a fast disk several would do nothing but take the interpreter from each
        # other, for each of a file's five system calls.
        self._small_turns: list[float] = []
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._rotation: deque[tuple[Lane, int]] = deque()

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def add(self, route: str, topic: str, rate: float | None) -> None:
        """Make a lane, if it isn't there."""
        if (route, topic) not in self._lanes:
            lane = self._lanes[route, topic] = Lane(route, topic, rate)
            self._rotation.extend(((lane, SMALL), (lane, LARGE)))

    def limit(self, route: str, topic: str, rate: float | None) -> None:
        """Give a lane another rate limit (bytes a second; None: none)."""
        lane = self._lanes[route, topic]
        if lane.rate != rate:
            lane.rate = rate
            lane.free_at = 0.0

    def lane(self, route: str, topic: str) -> Lane:
        """The lane of these; it must have been added."""
        return self._lanes[route, topic]

    def room(self, lane: Lane, kind: int) -> int:
        """How many more files of this kind may be taken from the ledger."""
        if kind == SMALL:
            return SMALL_AHEAD - len(lane.small)
        return self._max_large - lane.large_open

    def put(self, sending: Sending) -> None:
        """Let a file have its turns."""
        row = sending.row
        lane = self._lanes[row.route, row.topic]
        if row.lane == LARGE:
            lane.large.append(sending)
            lane.large_open += 1
        else:
            lane.small.append(sending)

    def over(self, sending: Sending) -> None:
        """A file needs no more turns."""
        row = sending.row
        self._lanes[row.route, row.topic].large_open -= row.lane == LARGE

    def next_turn(self, now: float) -> Turn | None:
        """The turn of the first lane in the rotation that has one; it goes to the end."""
        for position, (lane, kind) in enumerate(self._rotation):
            if lane.free_at > now or lane.route in self._paused:
                continue
            turn = self._small_turn(lane, now) if kind == SMALL else self._large_turn(lane)
            if turn is not None:
                lane.spend(turn.size, now)
                del self._rotation[position]
                self._rotation.append((lane, kind))
                return turn
        return None

    def next_free(self, now: float) -> float:
        """When something may go on that is held back now: by a rate limit, or by its like."""
        times = [lane.free_at for lane in self._lanes.values() if lane.free_at > now]
        if any(lane.small for lane in self._lanes.values()):
            times += [begun + JOIN_SECONDS for begun in self._small_turns[-1:]]
        return min(times, default=float("inf"))

    def give_back(self, turn: Turn, unfinished: list[Sending]) -> bool:
        """A turn is over; these of its files want another one. Whether the lane runs dry."""
        turn.lane.refund(turn.unused)
        if turn.kind == LARGE:
            self._large_turns -= 1
            turn.lane.large.extend(unfinished)
        else:
            self._small_turns.remove(turn.begun)
            turn.lane.small.extendleft(reversed(unfinished))
        return len(turn.lane.small) < SMALL_AHEAD // 2

    def _small_turn(self, lane: Lane, now: float) -> Turn | None:
        if not lane.small or (self._small_turns and now < self._small_turns[-1] + JOIN_SECONDS):
            return None
        self._small_turns.append(now)
        turn = Turn(lane, SMALL, [], 1 << 30, 0, 0, begun=now)
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
