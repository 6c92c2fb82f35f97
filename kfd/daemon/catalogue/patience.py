"""A bound on how long a database may keep a thread waiting.

A server that hangs, or a network that swallows everything, keeps a client in a call that no driver
bounds. So somebody else ends the connection under it: the call fails, and it is tried again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LOOK_SECONDS = 0.2


@contextmanager
def at_most(seconds: float, descriptor: int | None, stopping: threading.Event) -> Iterator[None]:
    """Shut the socket ``descriptor`` down after ``seconds``, or as soon as ``stopping`` is set,
    unless the block ends before. None: nothing that can be shut down."""
    if descriptor is None:
        yield
        return
    with _duplicate(descriptor) as connection:
        done = threading.Event()
        thread = threading.Thread(
            target=_watch,
            args=(seconds, connection, stopping, done),
            name=f"{threading.current_thread().name}-patience",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _duplicate(descriptor: int) -> socket.socket:
    """The connection by another descriptor: the number of its own may be somebody else's later."""
    number = os.dup(descriptor)
    try:
        return socket.socket(fileno=number)
    except OSError:
        os.close(number)
        raise


def _watch(
    seconds: float, connection: socket.socket, stopping: threading.Event, done: threading.Event
) -> None:
    deadline = time.monotonic() + seconds
    while not done.wait(_LOOK_SECONDS):
        if stopping.is_set() or time.monotonic() > deadline:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            return
