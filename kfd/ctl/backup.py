"""``kfdctl backup``: a copy of the ledger while kfd works."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from kfd.control.service import BackupParameters, BackupReply
from kfd.ctl.render import plain, print_json, say
from kfd.ctl.settings import Settings, verb
from kfd.errors import KfdError
from kfd.units import human_size


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@verb
def backup_command(settings: Settings, file: Path) -> None:
    """Write a copy of kfd's ledger to FILE, while kfd works.

    FILE appears when it is whole and durable; what had its name is replaced. Only root and kfd's
    user may read it.
    """
    with settings.connect() as client, _appearing(file) as descriptor:
        size = client.call(BackupParameters(), BackupReply, (descriptor,), timeout=None).size
    if settings.as_json:
        print_json(file=plain(str(file)), size=size)
    else:
        say(f"{plain(str(file))}  {human_size(size)}")


@contextmanager
def _appearing(file: Path) -> Iterator[int]:
    """A new file beside ``file``, 0600, that gets its name at the end, durable; else it goes."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, file)
        _sync(file.parent)
    except OSError as error:
        raise KfdError(
            f"can't be written: {error.strerror}", where=str(file), fix="give another FILE"
        ) from None
    finally:
        with suppress(OSError):  # it has its name by now
            os.unlink(temporary)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
