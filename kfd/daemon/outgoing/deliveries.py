"""The deliveries stage: turns Kafka's acknowledgements into the ledger's states.

A transfer ends here: acknowledged whole (``in_kafka``), failed, or changed underneath. Only what
the brokers acknowledged is written down, and only after that it is reported. Killed before the
ledger has it: the transfer is resumed, and receivers drop the repeated records.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.health import SENDING
from kfd.daemon.ledger import LedgerError, endings, outgoing
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.messageids import Message, about, log_batch
from kfd.daemon.outgoing.budget import Budget
from kfd.daemon.outgoing.feed import Feed
from kfd.daemon.outgoing.producer import RecordSink
from kfd.daemon.outgoing.resume import succeeded
from kfd.daemon.outgoing.sending import Failure, Sending
from kfd.daemon.stage import Stage
from kfd.paths import escape

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
BUSY_POLL_SECONDS = 0.01  # while transfers leave: the last report may already be in
PROGRESS_SECONDS = 1.0  # between notes of acknowledged prefixes


class Deliveries(Stage):
    """Named ``deliveries``; the only thread that polls the producer.

    Producer threads hand over what has had its last turn by :meth:`leave`; a transfer is finished
    when the last of its delivery reports is in as well.
    """

    def __init__(
        self,
        sink: RecordSink,
        feed: Feed,
        budget: Budget,
        context: Context,
        *,
        watched: Callable[[Outgoing], bool],
        look_again: Callable[[Outgoing], None],
        stop_seconds: float,
    ) -> None:
        """``watched``: whether a watcher looks after the file of a transfer; ``look_again`` tells
        it that the file changed or went. ``stop_seconds``: for the end."""
        super().__init__("deliveries")
        self._sink = sink
        self._feed = feed
        self._budget = budget
        self._ledger = context.ledger
        self._health = context.health
        self._rates = context.rates
        self._watched = watched
        self._look_again = look_again
        self._stop_seconds = stop_seconds
        self._left: deque[Sending] = deque()  # from producer threads; bounded by the budget
        self._leaving: set[Sending] = set()
        self._touched: list[Sending] = []
        self._moved: set[Sending] = set()
        self._interrupted: list[Sending] = []
        self._records = 0
        self._size = 0
        self._arrived: Counter[tuple[str, str]] = Counter()  # (route, topic) → bytes
        self._noted_at = 0.0
        self._unsaved: list[tuple[Ending, Sending]] = []
        self._saving: list[tuple[Ending, Sending]] = []
        self._saved: Future[None] | None = None

    def on_delivery(
        self, sending: Sending, failure: Failure | None, offset: int | None, size: int
    ) -> None:
        """A delivery report; called within :meth:`RecordSink.poll`."""
        self._records += 1
        self._size += size
        sending.returned += 1
        if failure is not None:
            sending.fail(failure)
        elif sending.failure is None:
            sending.acked += 1
            if sending.first_offset is None:
                sending.first_offset = offset
            self._arrived[sending.row.route, sending.row.topic] += size
            if sending.begin.chunks > 1:
                self._moved.add(sending)
        if sending.returned == sending.produced:
            self._touched.append(sending)

    def leave(self, sendings: Iterable[Sending]) -> None:
        """These have had their last turn. Producer threads."""
        self._left.extend(sendings)

    def run(self) -> None:
        while not self.stopping.is_set():
            self._step(BUSY_POLL_SECONDS if self._leaving or self._saving else POLL_SECONDS)
        self._finish()

    def _step(self, timeout: float) -> None:
        self._sink.poll(timeout)
        self.beat()
        self._budget.release(self._records, self._size)
        self._records = self._size = 0
        for (route, topic), size in self._arrived.items():
            self._rates.add(route, topic, size)
        self._arrived.clear()
        self._finish_settled()
        self._save()
        now = time.monotonic()
        if now - self._noted_at > PROGRESS_SECONDS:
            self._noted_at = now
            self._note_progress()

    def _finish_settled(self) -> None:
        candidates = [one for one in self._touched if one in self._leaving]
        self._touched.clear()
        while self._left:
            sending = self._left.popleft()
            self._leaving.add(sending)
            candidates.append(sending)
        for sending in candidates:
            if sending.settled and sending in self._leaving:
                self._leaving.remove(sending)
                self._end(sending)
        self._resume_interrupted()

    def _end(self, sending: Sending) -> None:
        failure = sending.failure
        if failure is None:
            reach("sender.acknowledged")
            self._unsaved.append((sending.ending("in_kafka"), sending))
        elif failure.state:
            _log_end(sending.row, failure)
            ending = sending.ending(failure.state, failure)
            if failure.look_again and not self._watched(sending.row):
                ending = succeeded(ending)
            self._unsaved.append((ending, sending))
        else:
            self._interrupted.append(sending)

    def _resume_interrupted(self) -> None:
        """Keep the acknowledged prefixes; the feed takes the transfers up again from the ledger."""
        interrupted, self._interrupted = self._interrupted, []
        if not interrupted:
            return
        for sending in interrupted:
            self._moved.discard(sending)
            if sending.failure is not None and sending.failure.reason:
                self._health.report(
                    _scope(sending), SENDING, sending.failure.reason,
                    sending.failure.fix
                    or "it is tried again every second; look at the brokers and the disk",
                )  # fmt: skip
        now = time.time()
        progress = [sending.progress(now) for sending in interrupted]
        self._ledger.write_patiently(lambda db: outgoing.note_progress(db, progress))
        self._feed.released(interrupted, resume=True)

    def _save(self) -> None:
        """Write endings down, one group at a time, without waiting for the disk."""
        if self._saved is not None:
            if not self._saved.done():
                return
            self._take_over(self._saved)
        if self._unsaved:
            self._saving, self._unsaved = self._unsaved, []
            batch = [ending for ending, _ in self._saving]
            self._saved = self._ledger.submit(lambda db: endings.end(db, batch))

    def _take_over(self, saved: Future[None]) -> None:
        try:
            saved.result()
        except LedgerError as error:
            self._health.report("ledger", "endings", str(error), error.fix)
            self._unsaved = self._saving + self._unsaved
        else:
            reach("sender.ended")
            self._health.clear("ledger", "endings")
            self._sink.recovered()
            sent = [s for ending, s in self._saving if ending.state == "in_kafka"]
            for scope in {_scope(sending) for sending in sent}:
                self._health.clear(scope, SENDING)
            _log_sent(sent)
            for ending, sending in self._saving:
                self._moved.discard(sending)
                if ending.state != "in_kafka":
                    self._after(ending, sending)
            self._feed.released(sending for _, sending in self._saving)
        self._saving, self._saved = [], None

    def _after(self, ending: Ending, sending: Sending) -> None:
        """What follows once the end of one that didn't get into Kafka is on disk."""
        if sending.has_partials:
            self._sink.abort(sending)
            reach("sender.aborted")
        if ending.look_again and ending.successor is None:
            self._look_again(sending.row)
        elif ending.successor is not None:
            self._feed.accepted(sending.row.route, sending.row.topic)

    def _note_progress(self) -> None:
        if self._moved:
            now = time.time()
            progress = [sending.progress(now) for sending in self._moved]
            self._moved.clear()
            self._ledger.submit(lambda db: outgoing.note_progress(db, progress))

    def _finish(self) -> None:
        """Wait for what is in flight, up to the deadline, and write down how far it came.

        The producer threads have stopped by now.
        """
        deadline = time.monotonic() + self._stop_seconds
        while self._budget.used()[0] and time.monotonic() < deadline:
            self._step(POLL_SECONDS)
        if self._budget.used()[0]:
            self._sink.give_up(1.0)
        while (self._saving or self._unsaved or self._left) and time.monotonic() < deadline + 5:
            self._step(BUSY_POLL_SECONDS)
        self._note_progress()
        for sending in self._feed.unfinished():
            sending.close()


def _log_end(row: Outgoing, failure: Failure) -> None:
    told = about(
        Message.FAILED if failure.state == "failed" else Message.CANCELLED,
        route=row.route,
        transfers=[(row.tid, row.path)],
    )
    log.warning("%s %s: %s", failure.state, escape(row.path), failure.reason, extra=told)


def _log_sent(sent: Sequence[Sending]) -> None:
    rows = [sending.row for sending in sent]
    files = [(row.route, row.tid, row.path) for row in rows]
    log_batch(log, Message.IN_KAFKA, "in Kafka:", files)


def _scope(sending: Sending) -> str:
    """Whose problem it is that a file is held up."""
    return sending.row.route or sending.row.topic
