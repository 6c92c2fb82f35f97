"""``Doctor`` and ``Acls``."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.control.examination import AclsParameters, DoctorParameters, DoctorReply
from kfd.daemon.methods.calls import Caller, Handlers, reply
from kfd.daemon.operations import ExaminingOperations
from kfd.varlink import Reply


class ExaminingMethods:
    """What is wrong, and what has to be granted."""

    def __init__(self, operations: ExaminingOperations) -> None:
        self._operations = operations

    def handlers(self) -> Handlers:
        return {"Doctor": self._doctor, "Acls": self._acls}

    def _doctor(self, _: DoctorParameters, caller: Caller) -> Iterator[Reply]:
        """With ``more``, an empty reply at once (a look may hang), one for each check, and an empty
        one at the end."""
        checks = self._operations.examine()
        if not caller.more:
            yield reply(DoctorReply(list(checks)))
            return
        yield reply(DoctorReply([]), continues=True)
        for check in checks:
            if caller.gone():
                return
            yield reply(DoctorReply([check]), continues=True)
        yield reply(DoctorReply([]))

    def _acls(self, _: AclsParameters, __: Caller) -> Iterator[Reply]:
        yield reply(self._operations.acls())
