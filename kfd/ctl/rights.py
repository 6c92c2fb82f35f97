"""What the service's user may do with paths: looked at by a child that is this user.

The modes alone don't tell: there are access control lists, and file systems that judge themselves.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kfd.config import Config
from kfd.config.accounts import Account
from kfd.config.secrets import FileSecret
from kfd.config.values import KEEP
from kfd.errors import PermissionProblemError


class Look(NamedTuple):
    """Something that has to be allowed."""

    path: Path
    wanted: int  # of os.R_OK | os.W_OK | os.X_OK
    key: str  # for which key of the configuration; empty: for the file itself
    where: str

    def fault(self, user: str) -> PermissionProblemError:
        what = "write in" if self.wanted & os.W_OK else "read"
        rights = {os.R_OK: "r"}.get(self.wanted, "rwX" if self.wanted & os.W_OK else "rX")
        return PermissionProblemError(
            f"{self.key}: {user} may not {what} {self.path}".removeprefix(": "),
            where=self.where,
            fix=f"setfacl -m u:{user}:{rights} {self.path}, and x on all above it; or chown, chmod",
        )


def rights_faults(
    config: Config, account: Account, file: Path | None
) -> Iterator[PermissionProblemError]:
    """What ``account`` may not do that the configuration, and its ``file``, need."""
    looks = list(_looks(config))
    if file is not None:
        looks.insert(0, Look(file, os.R_OK, "", ""))
    for look, allowed in zip(looks, _allowed(account, looks), strict=True):
        if not allowed:
            yield look.fault(account.name)


def _looks(config: Config) -> Iterator[Look]:
    for name, value in config.kafka.values.items():
        if isinstance(value, FileSecret):
            yield Look(value.path, os.R_OK, f"kafka.{name}", config.where("kafka", name))
    for route in config.uploads.values():
        key = f"uploads.{route.name}"
        where = config.where("uploads", route.name, "directory")
        yield Look(route.directory, os.R_OK | os.X_OK, f"{key}.directory", where)
        if route.then != KEEP:
            places = [route.directory, *([route.then.directory] if route.then.directory else [])]
            where = config.where("uploads", route.name, "then")
            for place in places:
                yield Look(place, os.W_OK | os.X_OK, f"{key}.then", where)


def _allowed(account: Account, looks: Sequence[Look]) -> list[bool]:
    """Whether each is; true where this process can't be that user, and so can't tell."""
    if account.uid == os.geteuid():
        return [_may(look) for look in looks]
    return _ask_child(account, looks) if os.geteuid() == 0 else [True] * len(looks)


def _ask_child(account: Account, looks: Sequence[Look]) -> list[bool]:
    """The process has one thread: a child that is forked can do all that this one can."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _become(account)
            os.write(write_end, json.dumps([_may(look) for look in looks]).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return [bool(one) for one in json.loads(text)] if text else [True] * len(looks)


def _become(account: Account) -> None:
    os.setgroups(list(account.gids))
    os.setgid(pwd.getpwuid(account.uid).pw_gid)
    os.setuid(account.uid)


def _may(look: Look) -> bool:
    """Also where it is missing, or something else: that is told elsewhere."""
    try:
        status = os.stat(look.path)
    except PermissionError:
        return False
    except OSError:
        return True
    if look.wanted & os.X_OK and not stat.S_ISDIR(status.st_mode):
        return True
    return os.access(look.path, look.wanted, effective_ids=True)
