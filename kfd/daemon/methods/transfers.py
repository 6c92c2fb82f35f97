"""``Wait``, ``List``, ``Show``, ``Cancel`` and ``Retry``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kfd.control import (
    MAX_CONDITIONS,
    MAX_LISTED,
    ListParameters,
    ListReply,
    Transfer,
    Until,
    WaitParameters,
    WaitReply,
)
from kfd.control.transfers import (
    CancelParameters,
    CancelReply,
    RetryParameters,
    RetryReply,
    Shown,
    ShowParameters,
    ShowReply,
)
from kfd.daemon.methods.calls import Caller, Handlers, check_tids, reply
from kfd.daemon.methods.changes import Changes, Pace
from kfd.daemon.methods.longanswers import LongAnswers
from kfd.daemon.operations import RETRIED_AT_ONCE, Asker, TransferOperations
from kfd.errors import KfdError
from kfd.marshal import MismatchError
from kfd.paths import MAX_PATH
from kfd.varlink import Reply


def _check_confirmed(transfers: Sequence[Transfer], until: Until) -> None:
    """Refuse a wait that would never end."""
    for one in transfers if until is Until.DELIVERED else ():
        if not one.receipts and not one.state.ended:
            raise KfdError(
                f"{one.path} is never called delivered: openmsistream's format has no receipts",
                fix=f"wait until it is in Kafka: kfdctl wait {one.tid[-8:]}",
            )


class TransferMethods:
    """What is asked of transfers."""

    def __init__(self, operations: TransferOperations, changes: Changes, long: LongAnswers) -> None:
        self._operations = operations
        self._long = long
        self._changes = changes

    def handlers(self) -> Handlers:
        return {
            "Wait": self._wait,
            "List": self._list,
            "Show": self._show,
            "Cancel": self._cancel,
            "Retry": self._retry,
        }

    def _list(self, parameters: ListParameters, caller: Caller) -> Iterator[Reply]:
        limit = parameters.limit
        if not 1 <= limit <= MAX_LISTED:
            raise MismatchError("limit", f"1 to {MAX_LISTED} is expected")
        if len(parameters.meta or {}) > MAX_CONDITIONS:
            raise MismatchError("meta", f"at most {MAX_CONDITIONS} are expected")
        if len(parameters.name or "") > MAX_PATH:
            raise MismatchError("name", "is longer than any path")
        with self._long.room(limit, caller):
            transfers = self._operations.list_transfers(parameters)
            complete = len(transfers) == limit or self._operations.looks_at_all(parameters)
            yield reply(ListReply(transfers, complete))

    def _wait(self, parameters: WaitParameters, caller: Caller) -> Iterator[Reply]:
        check_tids(parameters.tids)
        pace = Pace()
        for look, _ in enumerate(self._changes.follow(caller)):
            with self._long.room(len(parameters.tids), caller, begun=look > 0) as found:
                if not found:
                    continue
                transfers = self._operations.transfers(parameters.tids)
                reached = all(one.state.reached(parameters.until) for one in transfers)
                if reached or not caller.more:
                    yield reply(WaitReply(transfers))
                    return
                _check_confirmed(transfers, parameters.until)
                if pace.due(transfers):
                    yield reply(WaitReply(transfers), continues=True)

    def _show(self, parameters: ShowParameters, _: Caller) -> Iterator[Reply]:
        check_tids([parameters.tid])
        (first, *others) = self._operations.show(parameters.tid, parameters.route)
        yield reply(ShowReply(*first, [Shown(*one) for one in others]))

    def _cancel(self, parameters: CancelParameters, caller: Caller) -> Iterator[Reply]:
        check_tids([parameters.tid])
        asker = Asker(caller.uid, caller.owner)
        yield reply(CancelReply(self._operations.cancel(parameters.tid, asker)))

    def _retry(self, parameters: RetryParameters, caller: Caller) -> Iterator[Reply]:
        asker = Asker(caller.uid, caller.owner)
        if not parameters.failed:
            tids = parameters.tids or []
            check_tids(tids)
            with self._long.room(len(tids), caller):
                done = self._operations.retry(tids, asker)
                yield reply(RetryReply(done.transfers, done.refused))
            return
        if parameters.tids:
            raise MismatchError("failed", "goes without tids")
        after: int | None = 0
        while after is not None and not caller.gone():
            with self._long.room(RETRIED_AT_ONCE, caller, begun=after > 0) as found:
                if not found:
                    continue
                done, after = self._operations.retry_failed(parameters.route, after, asker)
                goes_on = after is not None and caller.more
                yield reply(RetryReply(done.transfers, done.refused), continues=goes_on)
                if not goes_on:
                    return
