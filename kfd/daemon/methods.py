"""The methods of ``io.kfd.Control`` and ``org.varlink.service``, over :class:`Operations`.

Each method is a generator of replies. The connection exhausts it whether or not somebody still
listens, so that a ``Quit`` whose client went away is finished all the same.
"""

from __future__ import annotations

import importlib.resources
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from kfd import control
from kfd.control import INTERFACE, METHODS, Sent, Transfer
from kfd.daemon.offered import checked_meta, offered_files
from kfd.daemon.operations import OfferedFile, Operations, SendRequest
from kfd.daemon.peer import Access
from kfd.errors import NotPermittedError
from kfd.marshal import MismatchError, from_json, to_json
from kfd.varlink import (
    INTERFACE_NOT_FOUND,
    METHOD_NOT_FOUND,
    SERVICE,
    Call,
    Reply,
    VarlinkError,
    invalid_parameter,
)

REPORT_INTERVAL = 0.5  # seconds between replies of a stream while only bytes move
_LEAST_INTERVAL = 0.05  # seconds between two looks at the ledger for one stream

_TID = re.compile(r"[0-9a-f]{8}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, how, and with what. ``gone`` tells whether that one has hung up."""

    uid: int
    access: Access
    refusal: NotPermittedError  # for one who may not use the socket at all
    descriptors: Sequence[int]
    more: bool
    gone: Callable[[], bool]


class Methods:
    """What the daemon answers. Its methods run in the threads of the connections."""

    def __init__(self, operations: Operations, version: str, stopping: threading.Event) -> None:
        self._operations = operations
        self._version = version
        self._stopping = stopping
        self._handlers: Mapping[str, Callable[[Any, Caller], Iterator[Reply]]] = {
            "Send": self._send,
            "Wait": self._wait,
            "GetStatus": self._status,
            "List": self._list,
            "Quit": self._quit,
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
            raise caller.refusal
        if call.member not in METHODS:
            raise VarlinkError(METHOD_NOT_FOUND, {"method": call.method})
        parameters: object = from_json(METHODS[call.member][0], dict(call.parameters), strict=True)
        return self._handlers[call.member](parameters, caller)

    def _send(self, parameters: control.SendParameters, caller: Caller) -> Iterator[Reply]:
        meta = checked_meta(parameters.meta)
        with ExitStack() as opened:
            owner = caller.access is Access.OWNER
            offers = offered_files(parameters.files, caller.descriptors, opened, owner=owner)
            files = [offer for offer in offers if isinstance(offer, OfferedFile)]
            request = SendRequest(
                files=files,
                route=parameters.route,
                topic=parameters.topic,
                meta=meta,
                again=bool(parameters.again),
                dry_run=bool(parameters.dry_run),
                uid=caller.uid,
            )
            answers = iter(self._operations.send(request) if files else [])
        sent = [offer if isinstance(offer, Sent) else next(answers) for offer in offers]
        yield _reply(control.SendReply(sent))

    def _status(self, _: control.GetStatusParameters, __: Caller) -> Iterator[Reply]:
        yield _reply(control.GetStatusReply(self._operations.status()))

    def _list(self, parameters: control.ListParameters, _: Caller) -> Iterator[Reply]:
        if not 1 <= parameters.limit <= control.MAX_LISTED:
            raise MismatchError("limit", f"1 to {control.MAX_LISTED} is expected")
        transfers = self._operations.list_transfers(
            parameters.state, parameters.route, parameters.limit
        )
        yield _reply(control.ListReply(transfers))

    def _wait(self, parameters: control.WaitParameters, caller: Caller) -> Iterator[Reply]:
        _check_wait(parameters)
        pace = _Pace()
        for _ in self._changes(caller):
            transfers = self._operations.transfers(parameters.tids)
            reached = all(one.state.reached(parameters.until) for one in transfers)
            if reached or not caller.more:
                yield _reply(control.WaitReply(transfers))
                return
            if pace.due(transfers):
                yield _reply(control.WaitReply(transfers), continues=True)

    def _quit(self, parameters: control.QuitParameters, caller: Caller) -> Iterator[Reply]:
        if caller.access is not Access.OWNER:
            raise NotPermittedError("only root and the daemon's user may stop kfd", fix="use sudo")
        if parameters.timeout is not None and parameters.timeout < 0:
            raise MismatchError("timeout", "seconds are expected")
        if not parameters.now:
            yield from self._drain(parameters.timeout, caller)
        left = self._operations.drain_progress()
        yield _reply(control.QuitReply(left.transfers, left.size, stopping=True))
        self._operations.request_stop()  # last: the reply is out before the socket closes

    def _drain(self, timeout: float | None, caller: Caller) -> Iterator[Reply]:
        """Until nothing is left; also without the client, or kfd would take no files for ever."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._operations.begin_drain()
        shown = None
        for _ in self._changes(least=REPORT_INTERVAL / 2):  # it counts the whole backlog
            left = self._operations.drain_progress()
            if not left.transfers or (deadline is not None and time.monotonic() >= deadline):
                return
            if caller.more and left != shown:
                shown = left
                reply = control.QuitReply(left.transfers, left.size, stopping=False)
                yield _reply(reply, continues=True)

    def _changes(
        self, caller: Caller | None = None, least: float = _LEAST_INTERVAL
    ) -> Iterator[None]:
        """Now, and then after each change but at least every :data:`REPORT_INTERVAL`.

        Ends when the caller is gone, and when the daemon stops.
        """
        seen = self._operations.wait_for_change(0, 0.0)
        while not (self._stopping.is_set() or (caller is not None and caller.gone())):
            yield
            self._stopping.wait(least)
            seen = self._operations.wait_for_change(seen, REPORT_INTERVAL)


class _Pace:
    """Lets a reply through where a state is new, or where bytes moved since one a while ago."""

    def __init__(self) -> None:
        self._last: Sequence[Transfer] = ()
        self._at = 0.0

    def due(self, transfers: Sequence[Transfer]) -> bool:
        states = [one.state for one in transfers] != [one.state for one in self._last]
        now = time.monotonic()
        if not states and (transfers == self._last or now - self._at < REPORT_INTERVAL):
            return False
        self._last, self._at = transfers, now
        return True


def description(interface: object) -> str:
    """The text of the ``.varlink`` file of an interface."""
    if interface not in (SERVICE, INTERFACE):
        raise invalid_parameter("interface")
    return importlib.resources.files("kfd").joinpath(f"{interface}.varlink").read_text("utf-8")


def _check_wait(parameters: control.WaitParameters) -> None:
    if not parameters.tids:
        raise MismatchError("tids", "is empty")
    for at, tid in enumerate(parameters.tids):
        if _TID.fullmatch(tid) is None:
            raise MismatchError(f"tids[{at}]", "32 hex digits, or the last 8, are expected")


def _reply(parameters: object, *, continues: bool = False) -> Reply:
    return Reply(to_json(parameters), continues)
