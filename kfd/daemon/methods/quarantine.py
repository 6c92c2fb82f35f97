"""``ListQuarantine``, ``ShowQuarantined``, ``Release`` and ``Purge``."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.control import MAX_LISTED, name_bytes
from kfd.control.quarantine import (
    ListQuarantineParameters,
    PurgeParameters,
    ReleaseParameters,
    ShowQuarantinedParameters,
)
from kfd.daemon.methods.calls import Caller, Handlers, check_tids, reply
from kfd.daemon.methods.longanswers import LongAnswers
from kfd.daemon.operations import QuarantineOperations
from kfd.marshal import MismatchError
from kfd.varlink import Reply


class QuarantineMethods:
    """Who may look may list and show; to release and to purge is for the owners."""

    def __init__(self, operations: QuarantineOperations, long: LongAnswers) -> None:
        self._operations = operations
        self._long = long

    def handlers(self) -> Handlers:
        return {
            "ListQuarantine": self._list,
            "ShowQuarantined": self._show,
            "Release": self._release,
            "Purge": self._purge,
        }

    def _list(self, parameters: ListQuarantineParameters, caller: Caller) -> Iterator[Reply]:
        if not 1 <= parameters.limit <= MAX_LISTED:
            raise MismatchError("limit", f"1 to {MAX_LISTED} is expected")
        with self._long.room(parameters.limit, caller):
            yield reply(self._operations.list_quarantine(parameters.route, parameters.limit))

    def _show(self, parameters: ShowQuarantinedParameters, _: Caller) -> Iterator[Reply]:
        check_tids([parameters.tid])
        yield reply(self._operations.show_quarantined(parameters.tid, parameters.route))

    def _release(self, parameters: ReleaseParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("release files from quarantine")
        check_tids([parameters.tid])
        try:
            name = name_bytes(parameters.to, parameters.to_base64)
        except ValueError as error:
            raise MismatchError("to", str(error)) from None
        yield reply(self._operations.release(parameters.tid, parameters.route, name))

    def _purge(self, parameters: PurgeParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("purge the quarantine")
        given = (parameters.tids is not None, bool(parameters.all),
                 parameters.older_than is not None)  # fmt: skip
        if sum(given) != 1:
            raise MismatchError("tids", "either tids, or all, or older_than is expected")
        if parameters.tids is not None:
            check_tids(parameters.tids)
            yield reply(self._operations.purge(parameters.tids, parameters.route))
        else:
            seconds = parameters.older_than or 0.0
            yield reply(self._operations.purge_older(seconds, parameters.route))
