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
    gid: int

    @property
    def user(self) -> str:
        """The user's name, or the number where there is none."""
        return name_of(self.uid)

    def __str__(self) -> str:
        return f"{self.user} (process {self.pid})"


def peer_of(connection: socket.socket) -> Peer:
    """The peer of a connected Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


def access_of(connection: socket.socket, peer: Peer, control_gid: int | None) -> Access:
    """What the peer of a connection may do. May have to ask a server who is in which group."""
    if peer.uid in {0, os.geteuid()}:
        return Access.OWNER
    return Access.MEMBER if control_gid in groups_of(connection, peer) else Access.STRANGER


def groups_of(connection: socket.socket, peer: Peer) -> set[int]:
    """All groups of a peer; of a process with very many, those of its user."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_OPTION)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return {peer.gid, *_groups_of_user(peer.uid, peer.gid)}
    return {peer.gid, *struct.unpack(f"{len(raw) // 4}I", raw)}


def _groups_of_user(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []
