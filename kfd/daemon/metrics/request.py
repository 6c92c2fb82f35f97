"""One HTTP request and its answer: bounded in size and in time, whoever asks."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http import HTTPStatus

MAX_HEAD = 8192  # bytes of a request
SECONDS = 2.0  # for a request to come, and for its answer to be taken

_PATH = "/metrics"
_CONTENT = "text/plain; version=0.0.4; charset=utf-8"
_END_OF_HEAD = b"\r\n\r\n"


class TooLongError(Exception):
    """The request doesn't end within :data:`MAX_HEAD`."""


def serve(connection: socket.socket, text: Callable[[], str]) -> None:
    """Answer what comes on ``connection``. Raises OSError where the peer goes or is too slow."""
    deadline = time.monotonic() + SECONDS
    try:
        head = _read(connection, deadline)
    except TooLongError:
        answer = _failure(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    else:
        if not head:
            return
        answer = answer_to(head, text)
    connection.settimeout(SECONDS)
    connection.sendall(answer)
    connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket, deadline: float) -> bytes:
    """The request up to its empty line; nothing if the peer closed before."""
    head = bytearray()
    while _END_OF_HEAD not in head:
        if len(head) > MAX_HEAD:
            raise TooLongError
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(MAX_HEAD)
        if not data:
            return b""
        head += data
    return bytes(head)


def answer_to(head: bytes, text: Callable[[], str]) -> bytes:
    """The answer to a request of which this is the head; only ``GET /metrics`` gives ``text``."""
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return _failure(HTTPStatus.BAD_REQUEST)
    method, target, _ = parts
    if target.partition(b"?")[0] != _PATH.encode():
        return _failure(HTTPStatus.NOT_FOUND)
    if method != b"GET":
        return _failure(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET\r\n")
    return _response(HTTPStatus.OK, text())


def failed() -> bytes:
    """The answer where the metrics can't be made."""
    return _failure(HTTPStatus.INTERNAL_SERVER_ERROR)


def _failure(status: HTTPStatus, more: str = "") -> bytes:
    return _response(status, f"{status.phrase}\n", more)


def _response(status: HTTPStatus, body: str, more: str = "") -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {_CONTENT}\r\n"
        f"Content-Length: {len(content)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + content
