"""The Unix group that a download gives what it publishes (``owner_group``)."""

from __future__ import annotations

import grp
import os
from collections.abc import Collection

from kfd.config.model import Config, Download
from kfd.errors import ConfigError
from kfd.unit import drop_in


def gid_of(config: Config, route: Download, own: Collection[int] | None = None) -> int:
    """The number of the group; -1 where none is configured.

    ``own`` are the groups of who is to give it away (None: of this process, or any if it is root).
    Raises :class:`ConfigError` for a group that doesn't exist here, or isn't one of these.
    """
    if route.owner_group is None:
        return -1
    where = config.where("downloads", route.name, "owner_group")
    try:
        gid = grp.getgrnam(route.owner_group).gr_gid
    except KeyError as error:
        raise ConfigError(
            f"downloads.{route.name}.owner_group: no group {route.owner_group} on this host",
            where=where,
            fix=f"groupadd {route.owner_group}",
        ) from error
    if not _may_give(gid, own):
        raise ConfigError(
            f"downloads.{route.name}.owner_group: kfd is not a member of {route.owner_group}",
            where=where,
            fix=drop_in(f"SupplementaryGroups={route.owner_group}"),
        )
    return gid


def _may_give(gid: int, own: Collection[int] | None) -> bool:
    if own is not None:
        return gid in own
    return os.geteuid() == 0 or gid in (os.getegid(), *os.getgroups())
