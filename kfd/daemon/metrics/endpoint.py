"""The endpoint for Prometheus: answers ``GET /metrics`` where ``metrics: HOST:PORT`` says.

One connection at a time, for a few seconds at most: whoever asks slowly holds up only others who
ask, and nothing of the data's way.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from collections.abc import Callable

from kfd.config.address import Address
from kfd.daemon import journal
from kfd.daemon.health import Health
from kfd.daemon.metrics import request
from kfd.daemon.stage import Stage

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0  # until an address is tried again that can't be had
_BACKLOG = 8  # connections that wait
_PAUSE = 0.2  # seconds after a failure to accept, as when there are no descriptors left
_SCOPE = "metrics"


class Endpoint(Stage):
    """Named ``metrics``. An address that can't be had is a problem in ``status``, and is tried
    again: files are moved all the same, and the address may come."""

    def __init__(self, address: Address | None, text: Callable[[], str], health: Health) -> None:
        """``text`` makes the metrics; ``address`` None: nothing listens."""
        super().__init__("metrics")
        self._wanted = address
        self._text = text
        self._health = health
        self._listening: socket.socket | None = None
        self._address: Address | None = None  # at which that listens
        self._waker: socket.socket | None = None  # while it runs

    def use(self, address: Address | None) -> None:
        """Listen there from now on. Any thread."""
        self._wanted = address
        self.wake()

    def wake(self) -> None:
        waker = self._waker
        if waker is not None:
            with contextlib.suppress(OSError):  # woken already, or ended
                waker.send(b"\0")

    def run(self) -> None:
        self._waker, woken = socket.socketpair()
        with self._waker, woken:
            self._waker.setblocking(False)
            woken.setblocking(False)
            try:
                while not self.stopping.is_set():
                    self.beat()
                    self._listen()
                    if self._asked(woken):
                        self._answer()
            finally:
                self._close()

    def _listen(self) -> None:
        """Listen where it is wanted now."""
        wanted = self._wanted
        if wanted is None:
            self._health.clear(_SCOPE, "listen")
        if wanted == self._address:
            return
        self._close()
        if wanted is None:
            return
        try:
            self._listening = _listening_at(wanted)
        except OSError as error:
            self._health.report(
                _SCOPE,
                "listen",
                f"nothing can listen at {wanted}: {error.strerror or error}",
                "give metrics: an address of this host with a free port above 1023, then"
                " kfdctl reload",
            )
        else:
            self._address = wanted
            self._health.clear(_SCOPE, "listen")
            log.info("metrics at http://%s/metrics", wanted)

    def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        self._listening = self._address = None

    def _asked(self, woken: socket.socket) -> bool:
        """Wait for a connection, for news, or for a while; whether somebody asks."""
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        if self._listening is not None:
            poll.register(self._listening, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(RETRY_SECONDS * 1000)}
        with contextlib.suppress(BlockingIOError):
            woken.recv(64)
        return self._listening is not None and self._listening.fileno() in ready

    def _answer(self) -> None:
        assert self._listening is not None
        try:
            connection = self._listening.accept()[0]
        except OSError as error:  # gone again, or no descriptors left
            log.debug("metrics: %s", error)
            self.stopping.wait(_PAUSE)
            return
        with connection:
            try:
                request.serve(connection, self._text)
            except OSError as error:
                log.debug("metrics: whoever asked is gone, or too slow: %s", error)
            except Exception as error:  # noqa: BLE001 - one question; the daemon goes on
                journal.bug(log, "metrics", error)
                with contextlib.suppress(OSError):
                    connection.sendall(request.failed())


def _listening_at(address: Address) -> socket.socket:
    """A socket that listens; raises OSError, also for a host that has no such name."""
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(where)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
