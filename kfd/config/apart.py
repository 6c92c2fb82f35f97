"""Directories that lie in one another by way of links or mounts.

Routes would feed themselves so, and what is moved after delivery would be sent once more, or lie in
a download's way. The model compares names; here the directories themselves are compared, where they
exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kfd.config.model import Config
from kfd.config.values import KEEP
from kfd.errors import ConfigError

Identity = tuple[int, int]  # device, inode


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory that the configuration names, by the key ``uploads.scope3.directory``."""

    section: Literal["uploads", "downloads"]
    route: str
    key: Literal["directory", "then"]
    path: Path
    disposing: bool  # of an upload that deletes or moves what was sent

    @property
    def name(self) -> str:
        return f"{self.section}.{self.route}.{self.key}"

    def may_lie_in(self, other: _Directory) -> bool:
        """Routes may read the same directory, as long as none takes the files from the others; and
        several may move files to one place."""
        if self.key == other.key == "then":
            return True
        reading = self.section == other.section == "uploads" and self.key == other.key
        return reading and not (self.disposing or other.disposing)

    def fix(self, other: _Directory) -> str:
        if "then" in (self.key, other.key):
            return "move files to a directory apart from those of all routes"
        if self.section == other.section == "uploads":
            return "write then: keep, or give each route a directory of its own"
        return "give each route a directory of its own, none below another's"


def check_apart(config: Config) -> None:
    """Raise :class:`ConfigError` with each directory that lies where it must not: see
    :func:`entangled`. Called before any directory is made."""
    faults = list(entangled(config))
    if faults:
        first = faults[0]
        raise ConfigError(first.what, where=first.where, fix=first.fix, faults=tuple(faults))


def entangled(config: Config) -> Iterator[ConfigError]:
    """One fault for each directory that lies in another: a download, or one to which files are
    moved, and any other; or that of an upload that deletes or moves files, and another upload's.
    Looks at the disk."""
    directories = list(_directories(config))
    identities = [_identity(one.path) for one in directories]
    for one in directories:
        around = _around(one.path)
        for other, identity in zip(directories, identities, strict=True):
            if other is not one and identity in around and not one.may_lie_in(other):
                yield ConfigError(
                    f"{one.name} lies in {other.name}: {one.path} in {other.path}",
                    where=config.where(one.section, one.route, one.key),
                    fix=one.fix(other),
                )
                break


def _directories(config: Config) -> Iterator[_Directory]:
    for name, download in config.downloads.items():
        yield _Directory("downloads", name, "directory", download.directory, disposing=False)
    for name, upload in config.uploads.items():
        disposing = upload.then != KEEP
        yield _Directory("uploads", name, "directory", upload.directory, disposing)
        if upload.then.directory is not None:
            yield _Directory("uploads", name, "then", upload.then.directory, disposing)


def _around(directory: Path) -> set[Identity | None]:
    """Of a directory and all above it, as far as they exist."""
    real = Path(os.path.realpath(directory))
    return {_identity(path) for path in (real, *real.parents)} - {None}


def _identity(path: Path) -> Identity | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
