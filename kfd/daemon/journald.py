"""The journal's native socket: entries of named fields, as datagrams.

Nobody waits for the journal: what it hasn't taken yet waits in memory, up to a bound. Beyond, lines
are dropped and counted, and one that follows says how many are missing.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from kfd.daemon.messageids import About
from kfd.paths import escape

SOCKET = "/run/systemd/journal/socket"
MAX_ENTRY = 64 * 1024  # bytes of the transfers in one entry; a datagram takes three times as much
MAX_TRANSFERS = 100  # in one entry: the journal takes at most 1,024 fields
MAX_MESSAGE = 8192  # characters
MAX_WAITING = 4 * 1024 * 1024  # bytes of entries
CLOSE_SECONDS = 2.0
RETRY_SECONDS = 0.2  # while the journal is being restarted

_WARNING = 4  # syslog(3)


def field(name: str, value: str) -> bytes:
    """A field as it travels: any text, without being taken for another field."""
    encoded = value.encode("utf-8", "backslashreplace")
    if b"\n" in encoded:
        return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(encoded)), encoded)
    return b"%b=%b\n" % (name.encode(), encoded)


def entries(priority: int, message: str, about: About) -> Iterator[bytes]:
    """The entries for one line of the log: one, or as many as its transfers need."""
    head = field("MESSAGE", message[:MAX_MESSAGE])
    head += field("PRIORITY", str(priority)) + field("SYSLOG_IDENTIFIER", "kfd")
    if about.message is not None:
        head += field("MESSAGE_ID", about.message.value)
    if about.route:
        head += field("KFD_ROUTE", about.route)
    for part in _parts(about.transfers):
        yield head + part


def _parts(transfers: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The fields of transfers, bounded; an empty part where there are none."""
    parts: list[bytes] = []
    size = 0
    for tid, path in transfers:
        part = _transfer(tid.hex(), escape(path))
        if parts and (size + len(part) > MAX_ENTRY or len(parts) == MAX_TRANSFERS):
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    yield b"".join(parts)


def _transfer(tid: str, path: str) -> bytes:
    """By its whole id, and by the last 8 digits, which are what people see."""
    return field("KFD_TRANSFER", tid) + field("KFD_TRANSFER", tid[-8:]) + field("KFD_PATH", path)


class Journal:
    """Writes to the journal from a thread of its own, so that nobody else waits for it.

    :meth:`write` may be called in any thread. The condition guards what waits and what was dropped.
    """

    def __init__(self, path: str = SOCKET) -> None:
        """Raises :class:`OSError` where nothing listens at ``path``."""
        self._path = path
        self._waiting: deque[bytes] = deque()
        self._size = 0  # of what waits, bytes
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._socket = _connected_once(path)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, entry: bytes) -> None:
        """Hand over an entry; it is dropped, and counted, where too much waits already."""
        with self._changed:
            if self._size + len(entry) > MAX_WAITING:
                self._dropped += 1
                return
            if self._dropped:
                self._put(_missing(self._dropped))
                self._dropped = 0
            self._put(entry)
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, for :data:`CLOSE_SECONDS` at most, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._socket.close()

    def _put(self, entry: bytes) -> None:
        self._waiting.append(entry)
        self._size += len(entry)

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            while not self._sent(entry):
                if self._closing:
                    return
                time.sleep(RETRY_SECONDS)

    def _next(self) -> bytes | None:
        """The next entry; None when closed and nothing is left."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            entry = self._waiting.popleft()
            self._size -= len(entry)
            return entry

    def _sent(self, entry: bytes) -> bool:
        """Whether the journal took it; a full one is waited for."""
        try:
            # by address: it is another socket once the journal was restarted
            self._socket.sendto(entry, self._path)
        except OSError:
            return False
        return True


def _connected_once(path: str) -> socket.socket:
    """A socket to send with, after a look whether anything listens. No send waits for ever."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 1, 0))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(path)
    except BaseException:
        ours.close()
        raise
    return ours


def _missing(count: int) -> bytes:
    text = f"{count} lines of the log are missing here: the journal did not take them in time"
    (entry,) = entries(_WARNING, text, About())
    return entry
