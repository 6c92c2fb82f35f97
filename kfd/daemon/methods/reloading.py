"""``Reload``."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.control.reloading import ReloadParameters
from kfd.daemon.methods.calls import Caller, Handlers, reply
from kfd.daemon.operations import ReloadingOperations
from kfd.varlink import Reply


class ReloadingMethods:
    """Reading the configuration again."""

    def __init__(self, operations: ReloadingOperations) -> None:
        self._operations = operations

    def handlers(self) -> Handlers:
        return {"Reload": self._reload}

    def _reload(self, _: ReloadParameters, caller: Caller) -> Iterator[Reply]:
        caller.must_own("reload kfd")
        yield reply(self._operations.reload())
