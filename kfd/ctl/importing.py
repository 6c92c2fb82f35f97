"""``kfdctl config import``: the old programs' configuration as kfd's."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kfd.ctl.render import note, plain, print_json, say
from kfd.ctl.settings import Settings, verb
from kfd.errors import ExitCode, UsageError

_PATH = click.Path(path_type=Path, readable=False)


@click.command("import")
@click.argument("old", metavar="OLD.config", type=_PATH)
@click.option("--topic", metavar="TOPIC", help="What was --topic_name.")
@click.option("--upload-dir", type=_PATH, metavar="DIR", help="The directory to send from.")
@click.option("--download-dir", type=_PATH, metavar="DIR", help="The directory to publish into.")
@click.option("--group", metavar="GROUP", help="What was --consumer_group_id, if it was given.")
@click.option(
    "--format", "wire", type=click.Choice(["kfd", "openmsistream"]), default="kfd",
    show_default=True, help="openmsistream: hosts that still have the old programs go on.",
)  # fmt: skip
@verb
def import_command(
    settings: Settings,
    old: Path,
    topic: str | None,
    upload_dir: Path | None,
    download_dir: Path | None,
    group: str | None,
    wire: str,
) -> ExitCode:
    """Print the kfd.yaml that does what OLD.config does.

    OLD.config is a file of openmsistream, or of its predecessors. Variables of the environment are
    put in as they are here; secrets are not taken over, it says where to put them. What kfd does by
    itself, or has nothing for, is told with its line. Exits with 1 where something has to be mended
    before kfd can use the result.
    """
    from kfd.ctl.unknown import without_unknown  # noqa: PLC0415 - costs librdkafka
    from kfd.oldconfig.checking import check  # noqa: PLC0415 - costs pydantic
    from kfd.oldconfig.imported import Wanted  # noqa: PLC0415 - likewise
    from kfd.oldconfig.reading import read  # noqa: PLC0415 - likewise
    from kfd.oldconfig.translation import translate  # noqa: PLC0415 - likewise
    from kfd.oldconfig.writing import write  # noqa: PLC0415 - costs yaml

    if group is not None and download_dir is None:
        raise UsageError("--group goes with --download-dir", fix="give the directory, too")
    config = read(old)
    wanted = Wanted(topic, _absolute(upload_dir), _absolute(download_dir), wire, group)
    imported = without_unknown(translate(config, wanted))
    text = write(imported, config.name)
    check(imported, text)
    notes = sorted(imported.notes, key=lambda one: one.line)
    if settings.as_json:
        print_json(yaml=text, notes=notes)
    else:
        say(text.rstrip("\n"))
        for one in notes:
            note(plain(f"{config.where(one.line)}: {one.text}"))
            if one.fix:
                note(f"  {'fix: ' if one.blocking else ''}{plain(one.fix)}")
    return ExitCode.FAILED if any(one.blocking for one in notes) else ExitCode.DONE


def _absolute(directory: Path | None) -> str | None:
    return None if directory is None else os.path.abspath(directory)
