"""What a configuration needs on this host, looked at from outside the service: for ``config check``
and ``doctor``."""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator
from pathlib import Path

from kfd.config import Config
from kfd.config.accounts import Account
from kfd.config.apart import entangled
from kfd.config.secrets import CredentialSecret
from kfd.config.usable import unusable
from kfd.ctl.rights import rights_faults
from kfd.ctl.service import Service
from kfd.databasefaults import database_faults
from kfd.errors import ConfigError, KfdError, PermissionProblemError


def host_faults(
    config: Config, unit: Service | None, file: Path | None = None
) -> Iterator[KfdError]:
    """Directories that lie in one another, or can't be used by the service's user (without a unit:
    by this one) or in its sandbox; groups. ``file``: the service's own, which it reads itself."""
    yield from entangled(config)
    account = Account.own() if unit is None else unit.account
    if account is None:
        name = unit.properties.get("User", "") if unit is not None else ""
        yield PermissionProblemError(
            f"there is no user {name}, as whom the service runs", fix="systemd-sysusers"
        )
    else:
        yield from rights_faults(config, account, file)
        yield from unusable(config, account)
    yield from database_faults(config)
    if unit is not None:
        yield from _sandbox_faults(config, unit)


def missing_group(config: Config) -> str:
    """What is to be known of a control group that isn't there; empty if it is. No fault: without
    it, only root and kfd's user may use kfdctl."""
    try:
        grp.getgrnam(config.control_group)
    except KeyError:
        return f"no group {config.control_group} on this host: only root may use kfdctl"
    return ""


def _sandbox_faults(config: Config, unit: Service) -> Iterator[KfdError]:
    uploads, downloads = config.uploads.values(), config.downloads.values()
    write = [route.directory for route in downloads]
    for upload in uploads:
        if upload.then.action != "keep":
            write.append(upload.directory)
        if upload.then.directory is not None:
            write.append(upload.then.directory)
    yield from unit.sandbox.faults([route.directory for route in uploads], write)
    groups = {route.owner_group for route in downloads if route.owner_group is not None}
    for group in sorted(groups):
        if (fault := unit.sandbox.chown_fault(group)) is not None:
            yield fault


def properties_of(config: Config, unit: Service | None) -> tuple[dict[str, str], list[KfdError]]:
    """Kafka's properties as far as this user can read their secrets, and what is wrong with the
    others. Credentials are known to systemd only: they are left out where the unit has them."""
    found: dict[str, str] = {}
    faults: list[KfdError] = []
    credentials = unit.credentials if unit is not None else frozenset()
    for name, value in config.each_kafka_property():
        if isinstance(value, str):
            found[name] = value
        elif not _known_to_service(config, name, value, credentials):
            faults.append(value)
    return found, faults


def _known_to_service(
    config: Config, name: str, error: KfdError, credentials: frozenset[str]
) -> bool:
    value = config.kafka.values[name]
    if isinstance(value, CredentialSecret):
        return isinstance(error, ConfigError) and value.name in credentials
    # what only the service's user may read is no fault that another user could find
    return isinstance(error, PermissionProblemError) and os.geteuid() != 0
