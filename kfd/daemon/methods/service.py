"""``GetStatus``, ``Metrics``, ``Backup`` and ``Quit``."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from kfd.control import GetStatusParameters, GetStatusReply, QuitParameters, QuitReply
from kfd.control.service import BackupParameters, BackupReply, MetricsParameters, MetricsReply
from kfd.daemon.methods.calls import Caller, Handlers, reply
from kfd.daemon.methods.changes import REPORT_INTERVAL, Changes
from kfd.daemon.operations import ServiceOperations
from kfd.errors import UsageError
from kfd.marshal import MismatchError
from kfd.varlink import Reply


class ServiceMethods:
    """What is asked of the daemon as a whole."""

    def __init__(self, operations: ServiceOperations, changes: Changes) -> None:
        self._operations = operations
        self._changes = changes

    def handlers(self) -> Handlers:
        return {
            "GetStatus": self._status,
            "Metrics": self._metrics,
            "Backup": self._backup,
            "Quit": self._quit,
        }

    def _status(self, _: GetStatusParameters, __: Caller) -> Iterator[Reply]:
        yield reply(GetStatusReply(self._operations.status()))

    def _metrics(self, _: MetricsParameters, __: Caller) -> Iterator[Reply]:
        yield reply(MetricsReply(self._operations.metrics()))

    def _backup(self, _: BackupParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("copy the ledger")
        if len(caller.descriptors) != 1:
            raise UsageError("a backup needs one descriptor", fix="pass that of an empty file")
        yield reply(BackupReply(self._operations.backup(caller.descriptors[0], caller.gone)))

    def _quit(self, parameters: QuitParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("stop kfd")
        if parameters.timeout is not None and parameters.timeout < 0:
            raise MismatchError("timeout", "seconds are expected")
        if not parameters.now and not (yield from self._drain(parameters.timeout, caller)):
            return
        left = self._operations.drain_progress(paused=True)
        yield reply(QuitReply(left.transfers, left.size, stopping=True, held=left.held))
        self._operations.request_stop()  # last: the reply is out before the socket closes

    def _drain(self, timeout: float | None, caller: Caller) -> Generator[Reply, None, bool]:
        """Until nothing is left; also without the client, or kfd would take no files for ever.

        False if kfd is ended before that, as by a signal.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._operations.begin_drain()
        shown = None
        for _ in self._changes.follow(least=REPORT_INTERVAL / 2):  # it counts the whole backlog
            left = self._operations.drain_progress()
            if not left.transfers or (deadline is not None and time.monotonic() >= deadline):
                return True
            if caller.more and left != shown:
                shown = left
                answer = QuitReply(left.transfers, left.size, stopping=False, held=left.held)
                yield reply(answer, continues=True)
        return not self._operations.drain_progress().transfers
