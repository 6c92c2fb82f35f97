"""One control connection: its requests, one after the other, each answered by the methods."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kfd.daemon import journal
from kfd.daemon.methods import TAKE_DESCRIPTORS, Caller, Methods
from kfd.daemon.peer import Access, Peer
from kfd.daemon.server.channel import SEND_TIMEOUT, Channel, Request
from kfd.daemon.server.pacing import Meter
from kfd.daemon.throttle import Throttle
from kfd.errors import ExitCode, KfdError, NotPermittedError
from kfd.refusals import to_varlink
from kfd.unit import log_of
from kfd.varlink import (
    Call,
    ProtocolError,
    VarlinkError,
    decode_call,
    encode_error,
    encode_reply,
)

log = logging.getLogger(__name__)

_TOO_SLOW = encode_error(
    to_varlink(KfdError(f"replies were not read for {SEND_TIMEOUT:g} s", fix="read them faster"))
)


class Connection:
    """Serves a channel in a thread of its own, until the peer closes or breaks the rules."""

    def __init__(
        self,
        channel: Channel,
        peer: Peer,
        access: Callable[[], Access],
        refusal: Callable[[], NotPermittedError],
        methods: Methods,
        throttle: Throttle,
        meter: Callable[[], Meter],
    ) -> None:
        """``access`` and ``refusal``, for one who has none, may ask a server who users are, and
        ``meter`` makes that of the thread in which it is called: this one's. ``throttle`` is for
        what is said of users.
        """
        self.peer = peer
        self._channel = channel
        self._find_access = access
        self._access = Access.STRANGER
        self._refusal = refusal
        self._methods = methods
        self._throttle = throttle
        self._meter = meter

    def serve(self) -> None:
        """Answer requests to the end; never raises, and closes the channel."""
        meter = self._meter()
        try:
            self._access = self._find_access()
            while (request := self._channel.receive()) is not None:
                with request:
                    self._answer(request, meter)
                meter.rest()
        except ProtocolError as error:
            if self._throttle.passes(str(self.peer.uid)):
                log.info("control: %s: %s", self.peer, error)
            self._fail(KfdError(str(error), fix="speak varlink: see io.kfd.Control.varlink"))
        except OSError as error:
            log.debug("control: %s: %s", self.peer, error)
        except Exception as error:  # noqa: BLE001 - one client's request; the daemon goes on
            journal.bug(log, f"control: a request of {self.peer}", error)
            bug = KfdError("kfd failed at this request; its log says why", fix=log_of())
            bug.exit_code = ExitCode.BUG
            self._fail(bug)
        finally:
            self._channel.close()
            meter.rest()  # or who breaks off each time would have no end of threads

    def shutdown(self) -> None:
        """End the connection; called from the server's thread."""
        self._channel.shutdown()

    def _answer(self, request: Request, meter: Meter) -> None:
        call = decode_call(request.frame)
        if call.method not in TAKE_DESCRIPTORS:
            request.close()  # or a stream would hold them for as long as it lasts
        try:
            for reply in self._methods.answer(call, self._caller(call, request, meter)):
                self._send(encode_reply(reply), call)
        except KfdError as error:
            self._send(encode_error(to_varlink(error)), call)
        except VarlinkError as error:
            self._send(encode_error(error), call)

    def _caller(self, call: Call, request: Request, meter: Meter) -> Caller:
        return Caller(
            uid=self.peer.uid,
            access=self._access,
            refusal=self._refusal,
            descriptors=request.descriptors,
            more=call.more,
            gone=self._channel.gone,
            rest=meter.rest,
        )

    def _send(self, frame: bytes, call: Call) -> None:
        if not call.oneway:
            self._channel.send(frame, complaint=_TOO_SLOW)

    def _fail(self, error: KfdError) -> None:
        self._channel.send(encode_error(to_varlink(error)))
