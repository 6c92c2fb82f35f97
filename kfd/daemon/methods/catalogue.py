"""``ListCatalogues``, ``AddToCatalogue``, ``WaitForCatalogue`` and ``RetryCatalogue``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from kfd.control import MAX_LISTED, Sent
from kfd.control.catalogue import (
    Added,
    AddToCatalogueParameters,
    AddToCatalogueReply,
    ListCataloguesParameters,
    RetryCatalogueParameters,
    WaitForCatalogueParameters,
)
from kfd.daemon.admission.offered import checked_meta, offered_files
from kfd.daemon.methods.calls import Caller, Handlers, check_tids, reply
from kfd.daemon.methods.changes import Changes
from kfd.daemon.methods.longanswers import LongAnswers
from kfd.daemon.operations import AddRequest, CatalogueOperations, OfferedFile
from kfd.marshal import MismatchError
from kfd.varlink import Reply


class CatalogueMethods:
    """Who may send may add; to have everything written again is for the owners."""

    def __init__(
        self, operations: CatalogueOperations, changes: Changes, long: LongAnswers
    ) -> None:
        self._operations = operations
        self._long = long
        self._changes = changes

    def handlers(self) -> Handlers:
        return {
            "ListCatalogues": self._list,
            "AddToCatalogue": self._add,
            "WaitForCatalogue": self._wait,
            "RetryCatalogue": self._retry,
        }

    def _list(self, parameters: ListCataloguesParameters, caller: Caller) -> Iterator[Reply]:
        if not 0 <= parameters.limit <= MAX_LISTED:
            raise MismatchError("limit", f"0 to {MAX_LISTED} is expected")
        with self._long.room(parameters.limit, caller):
            yield reply(self._operations.list_catalogues(parameters.catalogue, parameters.limit))

    def _add(self, parameters: AddToCatalogueParameters, caller: Caller) -> Iterator[Reply]:
        meta = checked_meta(parameters.meta)
        with ExitStack() as opened:
            offers = offered_files(parameters.files, caller.descriptors, opened, owner=caller.owner)
            files = [offer for offer in offers if isinstance(offer, OfferedFile)]
            request = AddRequest(
                *(files, parameters.catalogue, meta, caller.uid, caller.gone, caller.rest)
            )
            answers = iter(self._operations.add(request) if files else [])
        added = [
            Added(None, offer.path, 0, None, offer.refused, offer.fix)
            if isinstance(offer, Sent)
            else next(answers)
            for offer in offers
        ]
        yield reply(AddToCatalogueReply(added))

    def _wait(self, parameters: WaitForCatalogueParameters, caller: Caller) -> Iterator[Reply]:
        check_tids(parameters.tids, whole=True)
        before = None
        for _ in self._changes.follow(caller):
            begun = before is not None
            with self._long.room(len(parameters.tids), caller, begun=begun) as found:
                if not found:
                    continue
                state = self._operations.added(parameters.tids, parameters.catalogue)
                if not (state.waiting and caller.more):
                    yield reply(state)
                    return
                if state != before:
                    yield reply(state, continues=True)
                before = state

    def _retry(self, parameters: RetryCatalogueParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("have catalogues written again")
        yield reply(
            self._operations.retry_catalogue(parameters.catalogue, everything=bool(parameters.all))
        )
