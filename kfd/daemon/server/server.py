"""The control server: accepts connections at ``kfd.sock``, and gives each a thread of its own.

No client holds up another one or the data's way: connections are limited in all and for each
user, requests and replies in size and time.
"""

from __future__ import annotations

import contextlib
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
from kfd.daemon.peer import Peer, access_of, peer_of
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
_TURNING_AWAY = 0.001  # seconds of the processor for which it counts: more than it takes
_LONGEST_PAUSE = 0.001  # seconds between two who are turned away; 128 wait in the socket at most
_PAUSE = 0.2  # seconds after a failure to accept, as when there are no descriptors left
_STOP_TIMEOUT = 5.0  # seconds for connections to end


class _Refusal:
    """Why somebody is turned away, ready to be sent."""

    def __init__(self, text: str, fix: str) -> None:
        self.text = text
        self.frame = encode_error(to_varlink(KfdError(text, fix=fix)))


_ALL_TAKEN = _Refusal("too many control connections", "try again, or end some of them")
_OWN_TAKEN = _Refusal("too many control connections of one user", "end some of them")


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
        self._turned_away = Pacing()
        # Guards the two: the connections' threads remove themselves from them.
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._users: Counter[int] = Counter()  # how many connections each has

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
            peer = peer_of(accepted)
            refusal = self._refusal(peer)
            if refusal is None:
                self._admit(accepted, peer)
            else:
                self._turn_away(accepted, peer, refusal)
        except (OSError, RuntimeError) as error:  # gone already, or no more threads
            log.warning("a control connection is dropped: %s", error)
            accepted.close()

    def _turn_away(self, accepted: socket.socket, peer: Peer, refusal: _Refusal) -> None:
        """Say why. Who comes again and again has those wait who come then, himself among them:
        for so short a time that root hardly notices it."""
        if self._throttle.passes(str(peer.uid)):
            log.info("control: user %d is turned away: %s", peer.uid, refusal.text)
        with accepted, contextlib.suppress(OSError):
            accepted.send(refusal.frame, socket.MSG_DONTWAIT)
        pause = self._turned_away.pause(peer.uid, _TURNING_AWAY, time.monotonic())
        self.stopping.wait(min(pause, _LONGEST_PAUSE))

    def _admit(self, accepted: socket.socket, peer: Peer) -> None:
        self._start(
            Connection(
                Channel(accepted),
                peer,
                # in its own thread: users and groups may come from a server that is away
                lambda: access_of(accepted, peer, self._gid),
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
            self._users[connection.peer.uid] += 1
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
        uid = connection.peer.uid
        with self._lock:
            if self._connections.pop(connection, None) is not None:
                self._users[uid] -= 1
                if not self._users[uid]:
                    del self._users[uid]

    def _end_connections(self) -> None:
        with self._lock:
            ending = dict(self._connections)
        for connection in ending:
            connection.shutdown()
        deadline = time.monotonic() + _STOP_TIMEOUT
        for thread in ending.values():
            thread.join(max(0.0, deadline - time.monotonic()))
            self.beat()

    def _refusal(self, peer: Peer) -> _Refusal | None:
        with self._lock:
            all_of_them, own = len(self._connections), self._users[peer.uid]
        limit = MAX_CONNECTIONS - (KEPT_FOR_ROOT if peer.uid else 0)
        if all_of_them >= limit:
            return _ALL_TAKEN
        if own >= MAX_CONNECTIONS_OF_A_USER:
            return _OWN_TAKEN
        return None
