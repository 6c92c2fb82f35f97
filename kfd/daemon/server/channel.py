"""One control connection's bytes: requests with their descriptors in, replies out, all bounded.

A channel belongs to one thread, that of its connection; only :meth:`Channel.shutdown` may be
called from another.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from kfd.control import MAX_DESCRIPTORS
from kfd.varlink import MAX_REQUEST, FrameReader, ProtocolError

log = logging.getLogger(__name__)

FRAME_TIMEOUT = 5.0  # seconds to finish a request once begun
SEND_TIMEOUT = 5.0  # seconds for a reply to be taken

_READ_SIZE = MAX_REQUEST
_ANCILLARY_SIZE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


@dataclass(slots=True)
class Request:
    """A frame and the descriptors that came with it, which are closed at the end of ``with``."""

    frame: bytes
    descriptors: list[int] = field(default_factory=list)

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors: nobody wants them."""
        close_all(self.descriptors)
        self.descriptors = []


class Channel:
    """Frames over an accepted socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = FrameReader(MAX_REQUEST)
        self._frames: deque[bytes] = deque()
        self._descriptors: list[int] = []
        self._given_up = False

    def receive(self) -> Request | None:
        """The next request; None when the peer has closed, or doesn't take its replies.

        Waits as long as none is begun.

        Raises :class:`ProtocolError` where the peer breaks a limit or the protocol, and OSError.
        """
        if self._given_up:
            return None
        # half a request may have come with the one before
        deadline = time.monotonic() + FRAME_TIMEOUT if self._reader.begun else None
        while not self._frames:
            self._socket.settimeout(_left(deadline))
            if not self._read():
                return None
            if self._reader.begun and deadline is None:
                deadline = time.monotonic() + FRAME_TIMEOUT
        request = Request(self._frames.popleft(), self._descriptors)
        self._descriptors = []
        return request

    def _read(self) -> bool:
        """Read what is there, or wait for something; false at the end of the stream."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                _READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC
            )
        except TimeoutError:
            raise ProtocolError(f"a request was not finished in {FRAME_TIMEOUT:g} s") from None
        self._descriptors += _descriptors_in(ancillary)
        self._frames += self._reader.feed(data)
        self._check_descriptors(flags)
        return bool(data)

    def _check_descriptors(self, flags: int) -> None:
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > MAX_DESCRIPTORS:
            raise ProtocolError(
                f"more descriptors than {MAX_DESCRIPTORS}, or than kfd may have open"
            )
        if self._descriptors and len(self._frames) + self._reader.begun > 1:
            raise ProtocolError("descriptors while another request is in flight")

    def send(self, frame: bytes, *, complaint: bytes = b"") -> None:
        """Send a frame; after a failure this and all later ones go nowhere.

        ``complaint`` is a last frame for a peer that does not take its replies: the kernel calls
        a socket unwritable while there still is room for a small one.
        """
        if self._given_up:
            return
        try:
            if _becomes_writable(self._socket):
                self._socket.settimeout(SEND_TIMEOUT)
                self._socket.sendall(frame)
                return
            self._socket.setblocking(False)
            self._socket.send(complaint)
        except OSError as error:
            log.debug("a control client is gone: %s", error)
        self._given_up = True

    def gone(self) -> bool:
        """True once the peer has closed, or was given up."""
        poll = select.poll()
        poll.register(self._socket, 0)  # POLLHUP and POLLERR are always told
        return self._given_up or bool(poll.poll(0))

    def shutdown(self) -> None:
        """End the connection from another thread: its own wakes up and closes it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        close_all(self._descriptors)
        self._descriptors = []
        self._socket.close()


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # EIO, EDQUOT: of no interest in a file only read
            os.close(descriptor)


def _left(deadline: float | None) -> float | None:
    """Seconds for the next read; at least one millisecond, since 0 means never to wait."""
    return None if deadline is None else max(0.001, deadline - time.monotonic())


def _descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def _becomes_writable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poll.poll(SEND_TIMEOUT * 1000))
