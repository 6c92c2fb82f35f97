"""The connection to the daemon: finds the socket, calls methods, passes descriptors."""

from __future__ import annotations

import grp
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kfd.control import INTERFACE
from kfd.errors import KfdError, NotRunningError, TimedOutError, UsageError
from kfd.marshal import MismatchError, from_json, to_json
from kfd.refusals import from_varlink, not_permitted
from kfd.unit import SOCKET, log_of, of_socket, start
from kfd.users import name_of
from kfd.varlink import (
    MAX_REPLY,
    MAX_REQUEST,
    SERVICE,
    Call,
    FrameReader,
    ProtocolError,
    Reply,
    VarlinkError,
    decode_reply,
    encode_call,
)

T = TypeVar("T")

_LOOK_SECONDS = 15.0  # for an answer that changes nothing; the daemon itself has one wait for 10
_REPLY_TIMEOUT = 60.0  # seconds for the answer to a call; that to a stream may take for ever
_USUAL = -1.0  # the timeout that fits the method
_LOOKS = frozenset(
    {
        "GetStatus",
        "Show",
        "Events",
        "Metrics",
        "Doctor",
        "Acls",
        "ShowQuarantined",
        "Wait",
        "List",
        "ListQuarantine",
        "ListCatalogues",
        "WaitForCatalogue",
    }
)
"""Methods that only look."""
_READ_SIZE = 64 * 1024


def candidates(given: Path | None) -> list[Path]:
    """Where the socket may be, in the order of looking."""
    named = given or os.environ.get("KFD_SOCKET")
    if named:
        return [Path(named)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return [
        SOCKET,
        *([Path(runtime, "kfd/kfd.sock")] if runtime else []),
        Path(state, "kfd/kfd.sock"),
    ]


def connect(given: Path | None, timeout: float) -> Client:
    """Connect to the first daemon that answers.

    Raises :class:`NotRunningError`, :class:`kfd.errors.NotPermittedError`,
    :class:`TimedOutError`.
    """
    failures = []
    for path in candidates(given):
        try:
            return Client(_connected(path, timeout), path)
        except KfdError as error:
            failures.append(error)
    raise next((error for error in failures if not isinstance(error, NotRunningError)), failures[0])


def _connected(path: Path, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel waits for room in the daemon's queue; a timeout of Python's has it refuse.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(max(timeout, 0.001)))
        connection.connect(os.fspath(path))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
    except OSError as error:
        connection.close()
        raise _connect_problem(path, error) from None
    return connection


def _timeval(seconds: float) -> bytes:
    """As the kernel's socket options have it; 0: no timeout."""
    whole = int(seconds)
    return struct.pack("ll", whole, int((seconds - whole) * 1e6))


def _connect_problem(path: Path, error: OSError) -> KfdError:
    if isinstance(error, PermissionError):
        return not_permitted(name_of(os.geteuid()), str(path), _group_of(path))
    if isinstance(error, TimeoutError | BlockingIOError):
        return _silent(path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return not_running(f"no {path}", path)
    if isinstance(error, ConnectionRefusedError):
        return not_running(f"nothing listens at {path}", path)
    return NotRunningError(f"{path}: {error.strerror or error}", fix="give the right --socket")


def not_running(reason: str, path: Path) -> NotRunningError:
    """``path`` is that of the socket, which tells the unit."""
    return NotRunningError(f"kfd is not running ({reason})", fix=start_and_look(path))


def start_and_look(path: Path) -> str:
    """How to start the daemon whose socket this is, and to see why it ended."""
    unit = of_socket(path)
    return f"{start(unit)}; {log_of(unit)}"


def _silent(path: Path) -> TimedOutError:
    unit = of_socket(path)
    fix = f"systemctl status {unit}; {log_of(unit)}"
    return TimedOutError(f"kfd at {path} does not answer", fix=fix)


def _group_of(path: Path) -> str | None:
    """The group that may use the socket, if there is one besides root's."""
    try:
        status = path.stat()
        if status.st_gid and status.st_mode & 0o020:
            return grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        pass
    return None


class Client:
    """One connection; one call at a time. Every failure is a :class:`KfdError`."""

    def __init__(self, connection: socket.socket, path: Path) -> None:
        self.path = path
        self._socket = connection
        self._reader = FrameReader(MAX_REPLY)
        self._frames: deque[bytes] = deque()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def daemon_pid(self) -> int:
        """The daemon's process; 0 where it is in another pid namespace."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", raw)[0]
        return pid

    def call(
        self,
        parameters: object,
        result: type[T],
        descriptors: Sequence[int] = (),
        timeout: float | None = _USUAL,
    ) -> T:
        """The answer to one request; its method is told by the class of ``parameters``.

        ``timeout`` is in seconds; None for what may take for ever. Without it: some for methods
        that only look, 60 for those that change something.
        """
        if timeout == _USUAL:
            timeout = _LOOK_SECONDS if _method(parameters) in _LOOKS else _REPLY_TIMEOUT
        self._send(encode_request(parameters), descriptors)
        return _read_as(result, self._reply(timeout))

    def stream(self, parameters: object, result: type[T], timeout: float | None) -> Iterator[T]:
        """The answers to a request for more, to the last.

        The first comes at once and says how things are, so it is waited for in any case: for some
        seconds, of a method that changes something as long as ``timeout`` if that is longer, or
        for ever. Raises :class:`TimedOutError`, also when after ``timeout`` seconds there
        are more to come.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._send(encode_request(parameters, more=True), ())
        reply = self._reply(_patience(_method(parameters), timeout))
        yield _read_as(result, reply)
        while reply.continues:
            reply = self._reply(None if deadline is None else deadline - time.monotonic())
            yield _read_as(result, reply)

    def info(self) -> Mapping[str, Any]:
        """What the daemon says of itself."""
        self._send(encode_call(Call(f"{SERVICE}.GetInfo", {})), ())
        return self._reply(_LOOK_SECONDS).parameters

    def _send(self, frame: bytes, descriptors: Sequence[int]) -> None:
        try:
            self._socket.settimeout(_REPLY_TIMEOUT)
            sent = socket.send_fds(self._socket, [frame], descriptors) if descriptors else 0
            self._socket.sendall(frame[sent:])
        except TimeoutError:
            raise _silent(self.path) from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon hung up; what it said before is still to be read

    def _reply(self, timeout: float | None) -> Reply:
        try:
            while not self._frames:
                self._receive(timeout)
            return decode_reply(self._frames.popleft())
        except VarlinkError as error:
            raise from_varlink(error) from None
        except ProtocolError as error:
            raise KfdError(
                f"{self.path} does not speak as kfd does: {error}", fix="give the right --socket"
            ) from None

    def _receive(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            raise TimedOutError("timed out", fix="give it more time; the work goes on")
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(_READ_SIZE)
        except TimeoutError:
            raise _silent(self.path) from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise not_running(f"it closed {self.path}", self.path)
        self._frames += self._reader.feed(data)


def _patience(method: str, timeout: float | None) -> float | None:
    """How long the first answer of a stream may take that has so long as a whole."""
    if method in _LOOKS:
        return _LOOK_SECONDS
    return None if timeout is None else max(timeout, _LOOK_SECONDS)


def _method(parameters: object) -> str:
    return type(parameters).__name__.removesuffix("Parameters")


def encode_request(parameters: object, *, more: bool = False) -> bytes:
    """The frame of a call of ``io.kfd.Control`` with its parameters, as ``SendParameters``.

    Raises :class:`UsageError` where the daemon would not read so much.
    """
    given = {name: value for name, value in to_json(parameters).items() if value is not None}
    frame = encode_call(Call(f"{INTERFACE}.{_method(parameters)}", given, more=more))
    if len(frame) > MAX_REQUEST:
        raise UsageError(f"more than a request holds ({MAX_REQUEST:,} bytes)", fix="give less")
    return frame


def _read_as(result: type[T], reply: Reply) -> T:
    try:
        return from_json(result, reply.parameters, strict=False)
    except MismatchError as error:
        raise KfdError(
            f"kfd answers in a way unknown here ({error})",
            fix="kfdctl version shows whether both are of one version; restart the older one",
        ) from None
