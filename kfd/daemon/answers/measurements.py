"""The metrics, taken at the moment of asking."""

from __future__ import annotations

from kfd.daemon.answers.status import StatusReport
from kfd.daemon.ledger import Ledger, queries
from kfd.daemon.metrics.measured import Measured


class Measurements:
    """Takes snapshots, and writes them as Prometheus reads them. Any thread."""

    def __init__(self, ledger: Ledger, report: StatusReport) -> None:
        self._ledger = ledger
        self._report = report

    def take(self) -> Measured:
        """What it is now. Reads the ledger; may wait for a disk, never for Kafka."""
        tallies = queries.tallies(self._ledger.reader())
        return Measured(self._report.made_of(tallies), tallies, self._ledger.size_on_disk())

    def text(self) -> str:
        """All metrics in Prometheus' text format 0.0.4."""
        # by the first who asks: Prometheus' library takes memory, and time at the start
        from kfd.daemon.metrics import exposition  # noqa: PLC0415 - as above

        return exposition.text(self.take())
