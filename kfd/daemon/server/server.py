"""The control server: accepts connections at ``kfd.sock``, and gives each a thread of its own.

No client holds up another one or the data's way: connections are limited in all and for each
user, requests and replies in size and time.
"""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kfd.daemon.methods import Methods
from kfd.daemon.operations import Operations
from kfd.daemon.peer import Peer, peer_of
from kfd.daemon.server.channel import Channel
from kfd.daemon.server.connection import Connection
from kfd.daemon.server.pacing import Meter, Pacing
from kfd.daemon.server.socketfile import SocketFile, control_gid
from kfd.daemon.stage import Stage
from kfd.daemon.throttle import Throttle
from kfd.errors import InternalError, KfdError
from kfd.refusals import not_permitted, to_varlink
from kfd.varlink import encode_error

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_CONNECTIONS_OF_A_USER = 16
KEPT_FOR_ROOT = 1

_BEAT_INTERVAL = 2.0  # seconds
_PAUSE = 0.2  # seconds after a failure to accept, as when there are no descriptors left
_STOP_TIMEOUT = 5.0  # seconds for connections to end


class ControlServer(Stage):
    """The stage that owns the socket and the threads of its connections."""

    def __init__(
        self,
        socket_path: Path,
        group: str | None,
        operations: Operations,
        version: str,
        at_thread_end: Callable[[], None] = lambda: None,
    ) -> None:
        """``at_thread_end`` is called in each connection's thread when it ends."""
        super().__init__("control")
        self._at_thread_end = at_thread_end
        self._path = socket_path
        self._group = group
        self._methods = Methods(operations, version, self.stopping)
        self._file: SocketFile | None = None
        self._gid: int | None = None
        self._stuck = False  # for descriptors, say; logged once
        self._numbers = itertools.count(1)
        self._throttle = Throttle()
        self._pacing = Pacing()
        # Guards _connections: its threads remove themselves from it.
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}

    def listen(self) -> None:
        """Make the socket; clients may connect from now on, and are answered after ``start``.

        Called once, before ``start``. Raises :class:`kfd.errors.ConfigError` or
        :class:`kfd.errors.PermissionProblemError`.
        """
        self._gid = control_gid(self._group)
        if self._gid is None:
            self._group = None
        self._file = SocketFile(self._path, self._gid)

    def wake(self) -> None:
        if self._file is not None:
            self._file.wake()

    def run(self) -> None:
        if self._file is None:
            raise InternalError(
                "the control server was started before it listened", fix="report it"
            )
        try:
            while not self.stopping.is_set():
                self.beat()
                self._accept(self._file)
        finally:
            self._file.close()
            self._end_connections()

    def _accept(self, file: SocketFile) -> None:
        try:
            accepted = file.accept(_BEAT_INTERVAL)
        except OSError as error:
            if not self._stuck:
                log.warning("the control socket cannot accept: %s", error.strerror)
            self._stuck = True
            self.stopping.wait(_PAUSE)
            return
        self._stuck = False
        if accepted is None:
            return
        try:
            self._admit(accepted, peer_of(accepted))
        except (OSError, RuntimeError) as error:  # gone already, or no more threads
            log.warning("a control connection is dropped: %s", error)
            accepted.close()

    def _admit(self, accepted: socket.socket, peer: Peer) -> None:
        channel = Channel(accepted)
        refusal = self._refusal(peer)
        if refusal is not None:
            if self._throttle.passes(str(peer.uid)):
                log.info("control: %s is turned away: %s", peer, refusal)
            channel.send(encode_error(to_varlink(refusal)))
            channel.close()
            return
        self._start(
            Connection(
                channel,
                peer,
                peer.access(self._gid),
                # in its own thread: names of users may come from a server that is away
                lambda: not_permitted(peer.user, str(self._path), self._group),
                self._methods,
                self._throttle,
                lambda: Meter(self._pacing, peer.uid, self.stopping),
            )
        )

    def _start(self, connection: Connection) -> None:
        thread = threading.Thread(
            target=self._serve,
            args=(connection,),
            name=f"control-{next(self._numbers)}",
            daemon=True,
        )
        with self._lock:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:
            self._forget(connection)
            raise

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
            self._at_thread_end()
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.pop(connection, None)

    def _end_connections(self) -> None:
        with self._lock:
            ending = dict(self._connections)
        for connection in ending:
            connection.shutdown()
        deadline = time.monotonic() + _STOP_TIMEOUT
        for thread in ending.values():
            thread.join(max(0.0, deadline - time.monotonic()))
            self.beat()

    def _refusal(self, peer: Peer) -> KfdError | None:
        with self._lock:
            users = Counter(connection.peer.uid for connection in self._connections)
        limit = MAX_CONNECTIONS - (KEPT_FOR_ROOT if peer.uid else 0)
        if users.total() >= limit:
            return KfdError("too many control connections", fix="try again, or end some of them")
        if users[peer.uid] >= MAX_CONNECTIONS_OF_A_USER:
            return KfdError("too many control connections of one user", fix="end some of them")
        return None
