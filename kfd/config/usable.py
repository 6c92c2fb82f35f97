"""What a configuration needs on this host: the directories and groups of its downloads.

Nothing is made or changed; kfd takes the directories itself when it starts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kfd.config.accounts import Account
from kfd.config.groups import gid_of
from kfd.config.model import Config, Download
from kfd.errors import ConfigError, KfdError, PermissionProblemError


def unusable(config: Config, account: Account) -> Iterator[KfdError]:
    """One error for each thing that ``account`` can't use as the downloads say."""
    own = None if account.uid == 0 else account.gids
    for route in config.downloads.values():
        where = config.where("downloads", route.name, "directory")
        try:
            yield from _directory(route, account, where)
        except OSError as error:
            yield ConfigError(
                f"downloads.{route.name}.directory: {error.strerror}: {error.filename}",
                where=where,
                fix="name a directory that can be reached",
            )
        try:
            gid_of(config, route, own)
        except ConfigError as error:
            yield error


def _directory(route: Download, account: Account, where: str) -> Iterator[KfdError]:
    key = f"downloads.{route.name}.directory"
    there = _nearest(route.directory)
    status = there.stat()
    if not stat.S_ISDIR(status.st_mode):
        yield ConfigError(f"{key}: a file is in its way: {there}", where=where, fix="move it away")
        return
    closed = account.reaches(Path(os.path.realpath(there)))
    if closed is not None:
        yield PermissionProblemError(
            f"{key}: {account.name} may not search {closed}",
            where=where,
            fix=f"chmod o+x {closed}, or setfacl -m u:{account.name}:x {closed}",
        )
    elif not account.may(status, os.W_OK | os.X_OK):
        made = "write in" if there == route.directory else f"make {route.directory} in"
        yield PermissionProblemError(
            f"{key}: {account.name} may not {made} {there}",
            where=where,
            fix=f"install -d -o {account.name} {route.directory}",
        )


def _nearest(directory: Path) -> Path:
    """The directory, or what there is of the way to it."""
    for path in (directory, *directory.parents):
        if path.exists():
            return path
    return Path("/")
