"""Answers about the daemon as a whole, and to those who end it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kfd.control import DaemonState, Held, State, Status
from kfd.daemon.answers.holdups import HoldUps
from kfd.daemon.answers.measurements import Measurements
from kfd.daemon.answers.status import StatusReport
from kfd.daemon.backup import Backups
from kfd.daemon.context import Context
from kfd.daemon.ledger import queries
from kfd.daemon.ledger.queries import Tally
from kfd.daemon.operations import DrainProgress
from kfd.daemon.outgoing.uploads import Uploads


class ServiceAnswers:
    """Status, draining and the stop."""

    def __init__(
        self,
        context: Context,
        uploads: Uploads,
        report: StatusReport,
        measurements: Measurements,
        backups: Backups,
        request_stop: Callable[[], None],
    ) -> None:
        self._ledger = context.ledger
        self._life = context.life
        self._pauses = context.pauses
        self._holdups = HoldUps(context)
        self._uploads = uploads
        self._report = report
        self._measurements = measurements
        self._backups = backups
        self._request_stop = request_stop

    def status(self) -> Status:
        return self._report.take()

    def metrics(self) -> str:
        return self._measurements.text()

    def backup(self, descriptor: int, gone: Callable[[], bool]) -> int:
        return self._backups.make(descriptor, gone)

    def begin_drain(self) -> None:
        self._life.reach(DaemonState.DRAINING)
        self._uploads.stop_watching()

    def drain_progress(self, *, paused: bool = False) -> DrainProgress:
        waiting = [
            tally
            for tally in queries.tallies(self._ledger.reader())
            if tally.state in (State.QUEUED, State.SENDING)
            and (paused or tally.route not in self._pauses)
        ]
        return DrainProgress(
            sum(tally.count for tally in waiting),
            sum(tally.size for tally in waiting),
            held_up(waiting, self._holdups),
        )

    def request_stop(self) -> None:
        self._request_stop()


def held_up(waiting: Iterable[Tally], holdups: HoldUps) -> list[Held]:
    """What of this can't move now."""
    counts: Counter[tuple[str, str]] = Counter()
    for tally in waiting:
        counts[tally.route, tally.topic] += tally.count
    held = []
    for (route, topic), count in counts.items():
        why = holdups.sending(route, topic)
        if why is not None:
            held.append(Held(route, topic, count, why.text, why.fix))
    return held
