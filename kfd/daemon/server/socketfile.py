"""The file of the control socket: made for the right people, replaced when stale, removed."""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import select
import socket
import stat
from pathlib import Path

from kfd.errors import ConfigError, PermissionProblemError

log = logging.getLogger(__name__)

_BACKLOG = 128
_CONNECT_TIMEOUT = 1.0  # seconds; a live daemon's kernel answers at once


def control_gid(group: str | None) -> int | None:
    """The number of the group that may use the socket; none, said in the log, if there is none."""
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("there is no group %s: only root and this user may use the control socket", group)
        return None


class SocketFile:
    """A listening Unix socket and its file, which :meth:`close` removes if it is still this one."""

    def __init__(self, path: Path, gid: int | None) -> None:
        """Listen at ``path``: for group ``gid``, or for root and this user only.

        Raises :class:`ConfigError` or :class:`PermissionProblemError`.
        """
        self.path = path
        _make_way(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._waker, self._woken = socket.socketpair()
        try:
            _bind(self._socket, path)
            self._identity = _identity(path)
            _open_to_group(path, gid)
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
            self._waker.setblocking(False)
        except BaseException:
            self._close_sockets()
            raise

    def accept(self, timeout: float) -> socket.socket | None:
        """The next connection; None after ``timeout`` seconds, or when woken up."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        poll.poll(timeout * 1000)
        try:
            return self._socket.accept()[0]
        except BlockingIOError:
            return None

    def wake(self) -> None:
        """End a wait in :meth:`accept`, now or the next; called from any thread."""
        with contextlib.suppress(OSError):  # woken already, or closed
            self._waker.send(b"\0")

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._socket.fileno() < 0:
            return
        try:
            if _identity(self.path) == self._identity:
                self.path.unlink()
        except OSError as error:
            log.info("the control socket %s is not removed: %s", self.path, error.strerror)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in (self._socket, self._waker, self._woken):
            one.close()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _make_way(path: Path) -> None:
    """Make the directory, and remove the socket of a daemon that is no more."""
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        if path.is_symlink() or path.exists():
            _remove_stale(path)
    except OSError as error:
        raise _problem(path, error) from None


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(
            f"{path} is in the way: it is not a socket", fix="remove it, or give another --socket"
        )
    if _answers(path):
        raise ConfigError(
            f"another kfd listens at {path}",
            fix=f"kfdctl --socket {path} quit; or give this one another --socket",
        )
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except (BlockingIOError, TimeoutError):  # its backlog is full
            return True
    return True


def _bind(listening: socket.socket, path: Path) -> None:
    """Nobody else can connect until :func:`_open_to_group` lets them."""
    mask = os.umask(0o177)
    try:
        listening.bind(os.fspath(path))
    except OSError as error:
        raise _problem(path, error) from None
    finally:
        os.umask(mask)


def _open_to_group(path: Path, gid: int | None) -> None:
    """Mode 0660 with the control group's, or with this process's own where it may not give it."""
    if gid is None:
        return
    try:
        if path.stat().st_gid != gid:  # the service may not call it
            os.chown(path, -1, gid)
    except PermissionError:
        log.info("the control socket keeps this user's own group: it may not be given to %d", gid)
    path.chmod(0o660)


def _problem(path: Path, error: OSError) -> ConfigError | PermissionProblemError:
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return PermissionProblemError(
            f"the control socket {path} cannot be made: {reason}",
            fix=f"let this user write {path.parent}, or give another --socket",
        )
    return ConfigError(
        f"the control socket {path} cannot be made: {reason}",
        fix="give another --socket (a path of at most 107 bytes, in a directory that exists)",
    )
