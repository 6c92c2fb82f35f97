"""Routes whose directories lie in one another by way of links or mounts would feed themselves.

The configuration compares names; here the directories themselves are compared, where they exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kfd.config import Config
from kfd.errors import ConfigError

Identity = tuple[int, int]  # device, inode


def check_apart(config: Config) -> None:
    """Raise :class:`ConfigError` if a download lies in an upload, or the other way round, or in
    another download. Called at start, before any directory is made."""
    uploads = {f"uploads.{name}": route.directory for name, route in config.uploads.items()}
    downloads = {f"downloads.{name}": route.directory for name, route in config.downloads.items()}
    for name, directory in downloads.items():
        others = {other: path for other, path in downloads.items() if other != name}
        _check(config, name, directory, uploads | others)
    for name, directory in uploads.items():
        _check(config, name, directory, downloads)


def _check(config: Config, name: str, directory: Path, others: dict[str, Path]) -> None:
    above = set(_identities(directory))
    for other, path in others.items():
        with suppress(OSError):
            status = path.stat()
            if (status.st_dev, status.st_ino) in above:
                raise ConfigError(
                    f"{name}.directory lies in {other}.directory: {directory} in {path}",
                    where=config.where(*name.split(".", 1), "directory"),
                    fix="give each route a directory of its own, none below another's",
                )


def _identities(directory: Path) -> Iterator[Identity]:
    """Of a directory and all above it, as far as they exist."""
    real = Path(os.path.realpath(directory))
    for path in (real, *real.parents):
        with suppress(OSError):
            status = path.stat()
            yield status.st_dev, status.st_ino
