"""Clients that are other users: other processes, for the server asks the kernel who they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import unavailable

NOBODY = 65534


def needs_root() -> None:
    if os.geteuid() != 0:
        unavailable("only root can be another user")


def let_all_in(path: Path) -> None:
    """Permissions of the file aside: what does the server itself say?"""
    path.chmod(0o666)
    for directory in path.parents:
        if directory.stat().st_uid == os.geteuid() and directory.name:
            directory.chmod(directory.stat().st_mode | 0o111)


def as_user(uid: int, groups: list[int], gid: int, work: Callable[[], object]) -> Any:
    """What ``work`` returns in a process of that user."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            os.write(write_end, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)
