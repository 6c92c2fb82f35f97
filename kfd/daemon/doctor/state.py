"""Is what kfd itself has sound: the ledger, the socket, the configuration and its secrets?"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kfd.config import Config, load
from kfd.config.changes import changes
from kfd.config.properties import is_secret
from kfd.config.secrets import FileSecret, TextSecret
from kfd.config.values import KEEP
from kfd.control.examination import Check
from kfd.daemon.context import Context
from kfd.daemon.ledger import Ledger, soundness
from kfd.errors import KfdError, faults_of
from kfd.examination.checks import doubtful, failed, skipped, well, wrong
from kfd.propertyfaults import property_fault
from kfd.unit import drop_in, restart
from kfd.units import human_size

CHECK_SECONDS = 10.0
_LITTLE = 1 << 30  # bytes free
_KEY_FILES = ("ssl.key.location", "ssl.keystore.location")


def look_at_ledger(ledger: Ledger, path: Path) -> Iterator[Check]:
    """SQLite's own check, as far as it comes in time; and whether it may grow."""
    size = sum(_size(path.with_name(path.name + suffix)) for suffix in ("", "-wal"))
    found = soundness.damage(ledger.reader(), CHECK_SECONDS)
    if found:
        yield wrong(
            "ledger", f"{path} is damaged: {found}",
            "kfdctl quit --now, restore it from a backup, or move it away: files are sent again",
        )  # fmt: skip
    elif found is None:
        yield skipped("ledger", f"{human_size(size)}, too much to look through all of it here")
    else:
        yield well("ledger", f"sound, {human_size(size)}")
    status = os.statvfs(path.parent)
    free = status.f_bavail * status.f_frsize
    if free < _LITTLE:
        yield doubtful(
            "ledger", f"{human_size(free)} are free on its disk",
            f"free space for {path.parent}: without it nothing is accepted or published",
        )  # fmt: skip


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def look_at_socket(path: Path, group: str) -> Iterator[Check]:
    """May those use it who should?"""
    status = path.lstat()
    try:
        found = grp.getgrnam(group)
    except KeyError:
        yield doubtful(
            "socket", f"there is no group {group}: only root and kfd's user may use kfdctl",
            f"groupadd {group}; {restart()}; or name another as control_group",
        )  # fmt: skip
        return
    if (status.st_gid, stat.S_IMODE(status.st_mode)) != (found.gr_gid, 0o660):
        yield doubtful(
            "socket", f"{path} is not the group {group}'s",
            drop_in(f"SupplementaryGroups={group}"),
        )  # fmt: skip
        return
    members = ", ".join(found.gr_mem) or "nobody by name"
    yield well("socket", f"{path} is for the group {group}: {members}")


def look_at_configuration(running: Config, path: Path | None, context: Context) -> Iterator[Check]:
    """Does its file say what runs?"""
    if path is None:
        yield skipped("configuration", "it came from the command line")
        return
    try:
        wanted = load(path, property_fault)
        properties = wanted.kafka_properties()
    except KfdError as error:
        yield from (failed("configuration", fault) for fault in faults_of(error))
        return
    todo = changes(running, wanted, context.properties, properties)
    waiting = [*todo.added, *todo.changed, *todo.removed, *todo.applied]
    if waiting:
        text = f"{path} has changes that are not in effect: {', '.join(waiting)}"
        yield doubtful("configuration", text, "kfdctl reload")
    if todo.restart:
        text = f"changed in {path}, needs a restart: {', '.join(todo.restart)}"
        yield doubtful("configuration", text, restart())
    if todo.nothing:
        yield well("configuration", f"{path} is in effect")


def look_at_secrets(config: Config, path: Path | None) -> Iterator[Check]:
    """Can others read them?"""
    values = config.kafka.values
    files = [value.path for value in values.values() if isinstance(value, FileSecret)]
    files += [
        Path(text) for name, text in values.items() if name in _KEY_FILES and isinstance(text, str)
    ]
    secrets = [one.secret[1] for one in config.catalogue.values() if one.secret is not None]
    files += [secret.path for secret in secrets if isinstance(secret, FileSecret)]
    in_the_file = any(isinstance(text, str) and is_secret(name) for name, text in values.items())
    in_the_file |= any(isinstance(secret, TextSecret) for secret in secrets)
    in_the_file |= any(one.has_password for one in config.catalogue.values())
    if path is not None and in_the_file:
        files.append(path)
    open_to_all = [file for file in files if _readable_by_all(file)]
    for file in open_to_all:
        yield doubtful(
            "secrets", f"everybody may read {file}", f"chown kfd {file}; chmod 600 {file}"
        )
    if files and not open_to_all:
        number = "1 file" if len(files) == 1 else f"{len(files)} files"
        yield well("secrets", f"{number}, not readable by everybody")


def _readable_by_all(file: Path) -> bool:
    with suppress(OSError):  # that it isn't there is told elsewhere
        return bool(file.stat().st_mode & stat.S_IROTH)
    return False


def look_at_receipts(config: Config) -> Iterator[Check]:
    """What a receipt is worth where files go because of one."""
    for route in config.uploads.values():
        if route.then != KEEP:
            yield doubtful(
                f"uploads.{route.name}.then",
                f"files go once a receipt says that they are published: whoever may write"
                f" {route.topic}.receipts can say so",
                f"let only the receivers write {route.topic}.receipts (ACLs): kfdctl doctor --acls",
            )
