"""``kfdctl backup``: a copy of the ledger while kfd works."""

from __future__ import annotations

from pathlib import Path

import click

from kfd.control.service import BackupParameters, BackupReply
from kfd.ctl.appearing import appearing
from kfd.ctl.render import plain, print_json, say
from kfd.ctl.settings import Settings, verb
from kfd.ctl.texts import to_file
from kfd.units import human_size


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False), callback=to_file)
@verb
def backup_command(settings: Settings, file: Path) -> None:
    """Write a copy of kfd's ledger to FILE, while kfd works.

    FILE appears when it is whole and durable; a file that had its name is replaced. Only root and
    kfd's user may read it.
    """
    with settings.connect() as client, appearing(file) as descriptor:
        size = client.call(BackupParameters(), BackupReply, (descriptor,), timeout=None).size
    if settings.as_json:
        print_json(file=plain(str(file)), size=size)
    else:
        say(f"{plain(str(file))}  {human_size(size)}")
