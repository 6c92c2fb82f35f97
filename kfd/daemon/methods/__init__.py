"""The methods of ``io.kfd.Control`` and ``org.varlink.service``, by family, over the operations.

Each method is a generator of replies. The connection exhausts it whether or not somebody still
listens, so that a ``Quit`` whose client went away is finished all the same.
"""

from __future__ import annotations

import importlib.resources
import threading
from collections.abc import Iterator

from kfd.control import INTERFACE, METHODS
from kfd.daemon.methods.calls import Caller, Handlers
from kfd.daemon.methods.catalogue import CatalogueMethods
from kfd.daemon.methods.changes import Changes
from kfd.daemon.methods.events import EventMethods
from kfd.daemon.methods.examining import ExaminingMethods
from kfd.daemon.methods.longanswers import LongAnswers
from kfd.daemon.methods.quarantine import QuarantineMethods
from kfd.daemon.methods.reloading import ReloadingMethods
from kfd.daemon.methods.routes import RouteMethods
from kfd.daemon.methods.sending import SendingMethods
from kfd.daemon.methods.service import ServiceMethods
from kfd.daemon.methods.transfers import TransferMethods
from kfd.daemon.operations import Operations
from kfd.daemon.peer import Access
from kfd.marshal import MismatchError, from_json
from kfd.varlink import (
    INTERFACE_NOT_FOUND,
    METHOD_NOT_FOUND,
    SERVICE,
    Call,
    Reply,
    VarlinkError,
    invalid_parameter,
)

__all__ = ["TAKE_DESCRIPTORS", "Caller", "Methods", "description"]

TAKE_DESCRIPTORS = frozenset(f"{INTERFACE}.{name}" for name in ("Send", "Backup", "AddToCatalogue"))


class Methods:
    """What the daemon answers. Its methods run in the threads of the connections."""

    def __init__(self, operations: Operations, version: str, stopping: threading.Event) -> None:
        self._version = version
        changes = Changes(operations.transfers.wait_for_change, stopping)
        long = LongAnswers()
        self._handlers: Handlers = {
            **SendingMethods(operations.sending).handlers(),
            **TransferMethods(operations.transfers, changes, long).handlers(),
            **EventMethods(operations.events, changes, long).handlers(),
            **RouteMethods(operations.routes, changes).handlers(),
            **QuarantineMethods(operations.quarantine, long).handlers(),
            **CatalogueMethods(operations.catalogue, changes, long).handlers(),
            **ServiceMethods(operations.service, changes).handlers(),
            **ReloadingMethods(operations.reloading).handlers(),
            **ExaminingMethods(operations.examining).handlers(),
        }

    def answer(self, call: Call, caller: Caller) -> Iterator[Reply]:
        """The replies to a call. Raises :class:`KfdError` and :class:`VarlinkError`."""
        try:
            if call.interface == SERVICE:
                yield self._service(call)
            elif call.interface == INTERFACE:
                yield from self._control(call, caller)
            else:
                raise VarlinkError(INTERFACE_NOT_FOUND, {"interface": call.interface})
        except MismatchError as mismatch:
            raise invalid_parameter(str(mismatch)) from None

    def _service(self, call: Call) -> Reply:
        if call.member == "GetInfo":
            return Reply(
                {
                    "vendor": "kfd",
                    "product": "kfd",
                    "version": self._version,
                    "url": "",
                    "interfaces": [SERVICE, INTERFACE],
                }
            )
        if call.member == "GetInterfaceDescription":
            return Reply({"description": description(call.parameters.get("interface"))})
        raise VarlinkError(METHOD_NOT_FOUND, {"method": call.method})

    def _control(self, call: Call, caller: Caller) -> Iterator[Reply]:
        if caller.access is Access.STRANGER:
            raise caller.refusal()
        if call.member not in METHODS:
            raise VarlinkError(METHOD_NOT_FOUND, {"method": call.method})
        parameters: object = from_json(METHODS[call.member][0], dict(call.parameters), strict=True)
        return self._handlers[call.member](parameters, caller)


def description(interface: object) -> str:
    """The text of the ``.varlink`` file of an interface."""
    if interface not in (SERVICE, INTERFACE):
        raise invalid_parameter("interface")
    return importlib.resources.files("kfd").joinpath(f"{interface}.varlink").read_text("utf-8")
