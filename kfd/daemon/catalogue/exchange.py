"""One question over HTTP and its answer: bounded in time and size, with no redirect followed.

Each has a connection of its own. The whole of it, whatever the other side does (nothing, a byte a
second, gigabytes), ends within :data:`SECONDS`, or soon after the daemon begins to stop, once it is
connected. Only the look-up of a name isn't ours to end: the resolver does it, as ``resolv.conf``
says (10 s and more).
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from kfd.daemon.catalogue.sink import SinkError

SECONDS: Final = 20.0  # for the whole exchange
MAX_ANSWER: Final = 1 << 20  # bytes
_SLICE: Final = 0.5  # seconds between looks at whether the daemon stops
_PIECE: Final = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``headers`` and ``body`` may hold secrets: they are shown nowhere."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def place(self) -> str:
        """The address as it is shown."""
        return self.url.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Caller:
    """Asks; in one thread. ``tls`` checks who answers at ``https`` addresses."""

    def __init__(self, stopping: threading.Event, tls: ssl.SSLContext | None = None) -> None:
        self._stopping = stopping
        self._tls = tls or ssl.create_default_context()

    def ask(self, question: Question) -> Answer:
        """Raises :class:`SinkError` where there is no answer, or none that is whole."""
        watch = _Watch(time.monotonic() + SECONDS, self._stopping)
        try:
            return self._asked(question, watch)
        except TimeoutError:
            what = f"no answer within {SECONDS:g} s"
            raise SinkError(what, where=question.place, fix=_WAIT) from None
        except ssl.SSLCertVerificationError as error:
            what = f"its certificate isn't trusted: {error.verify_message}"
            raise SinkError(what, where=question.place, fix=_TRUST) from None
        except (http.client.HTTPException, ssl.SSLEOFError, ConnectionResetError) as error:
            what = f"the answer was cut off, or isn't HTTP ({type(error).__name__})"
            raise SinkError(what, where=question.place, fix=_WAIT) from None
        except ValueError:
            fix = "correct the address in the configuration"
            raise SinkError("not an address to ask", where=question.place, fix=fix) from None
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise SinkError(f"can't be reached: {why}", where=question.place, fix=_REACH) from None

    def _asked(self, question: Question, watch: _Watch) -> Answer:
        url = urlsplit(question.url)
        connection = _Connection(url, self._tls if url.scheme == "https" else None, watch)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            connection.request(question.method, target, question.body, dict(question.headers))
            response = connection.getresponse()
            body = _body(response, question.place)
            return Answer(response.status, response.headers, body)
        finally:
            connection.hang_up()


_WAIT = "nothing; it is tried again, with growing pauses"
_TRUST = "write ca: FILE with the certificate of its issuer, or correct the address"
_REACH = "look at the address, the network and the firewall; it is tried again by itself"


def _body(response: http.client.HTTPResponse, place: str) -> bytes:
    pieces: list[bytes] = []
    room = MAX_ANSWER + 1
    while room > 0 and (piece := response.read(min(room, _PIECE))):
        pieces.append(piece)
        room -= len(piece)
    if room <= 0:
        raise SinkError(
            f"an answer of more than {MAX_ANSWER >> 20} MiB",
            where=place,
            fix="correct the address: this isn't what CasJobs answers",
        )
    if response.length:  # bytes that were announced and did not come
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)


class _Watch:
    """How long may still be waited."""

    def __init__(self, end: float, stopping: threading.Event) -> None:
        self._end = end
        self._stopping = stopping

    def patience(self) -> float:
        """Seconds until the next look here; raises where there are none left."""
        if self._stopping.is_set():
            raise SinkError("kfd is stopping", fix="the row is written after the next start")
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, _SLICE)

    def left(self) -> float:
        """Seconds until the end."""
        self.patience()
        return max(self._end - time.monotonic(), 0.001)


class _Watched:
    """A connected socket, with what http.client uses of one; every wait is watched."""

    def __init__(self, sock: socket.socket, watch: _Watch) -> None:
        self._sock = sock
        self._watch = watch

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._patiently(self._sock.send, rest) :]

    def receive_into(self, buffer: Any) -> int:
        return self._patiently(self._sock.recv_into, buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """Left to :meth:`_Connection.hang_up`: http.client closes what it still reads from."""

    def _patiently(self, operation: Callable[[Any], int], data: Any) -> int:
        while True:
            self._sock.settimeout(self._watch.patience())
            try:
                return operation(data)
            except TimeoutError:
                continue


class _Incoming(io.RawIOBase):
    """What comes in over a watched socket."""

    def __init__(self, source: _Watched) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._source.receive_into(buffer)


class _Connection(http.client.HTTPConnection):
    """A connection that is watched from its first packet on."""

    def __init__(self, url: SplitResult, tls: ssl.SSLContext | None, watch: _Watch) -> None:
        super().__init__(url.hostname or "", url.port or (443 if tls else 80))
        self._tls = tls
        self._watch = watch
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        self._socket = self._reached()
        if self._tls is not None:
            self._socket.settimeout(self._watch.left())
            self._socket = self._tls.wrap_socket(self._socket, server_hostname=self.host)
        self.sock: Any = _Watched(self._socket, self._watch)

    def _reached(self) -> socket.socket:
        """A connection to the first address that answers. They share the time that is left."""
        last: OSError = OSError("it has no address")
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            patience = self._watch.left() / (len(found) - tried)
            try:
                return _connected(socket.socket(family, kind, protocol), address, patience)
            except OSError as error:
                last = error
        raise last

    def hang_up(self) -> None:
        self.close()
        if self._socket is not None:
            self._socket.close()


def _connected(sock: socket.socket, address: Any, patience: float) -> socket.socket:
    try:
        sock.settimeout(patience)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
