"""Who is at the other end of a control connection, and what that one may do."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from enum import Enum

from kfd.users import name_of

_SO_PEERGROUPS = 59  # the socket module has no name for it
_UCRED = struct.Struct("3i")
_MAX_OPTION = 1024  # what socket.getsockopt reads at most: 256 groups


class Access(Enum):
    OWNER = "root or the daemon's user: everything"
    MEMBER = "in the control group: send and look"
    STRANGER = "nothing"


@dataclass(frozen=True, slots=True)
class Peer:
    """The kernel's word on who connected: at that time, whatever became of the process since."""

    pid: int
    uid: int
    gids: frozenset[int]

    @property
    def user(self) -> str:
        """The user's name, or the number where there is none."""
        return name_of(self.uid)

    def access(self, control_gid: int | None) -> Access:
        if self.uid in {0, os.geteuid()}:
            return Access.OWNER
        return Access.MEMBER if control_gid in self.gids else Access.STRANGER

    def __str__(self) -> str:
        return f"{self.user} (process {self.pid})"


def peer_of(connection: socket.socket) -> Peer:
    """The peer of a connected Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Peer(pid, uid, frozenset({gid, *_groups(connection, uid, gid)}))


def _groups(connection: socket.socket, uid: int, gid: int) -> list[int]:
    """The supplementary groups; of a process with very many, those of its user."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_OPTION)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return _groups_of_user(uid, gid)
    return list(struct.unpack(f"{len(raw) // 4}I", raw))


def _groups_of_user(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []
