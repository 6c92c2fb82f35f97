"""``kfdctl config check`` and ``config show``: a configuration file, without the daemon."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kfd.ctl.render import count, note, print_json, say
from kfd.ctl.settings import Settings, global_options, verb
from kfd.errors import ExitCode
from kfd.paths import escape
from kfd.units import human_size

if TYPE_CHECKING:
    from kfd.config import Config, Upload

_DEFAULT = Path("/etc/kfd/kfd.yaml")

_file_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, readable=False),
    default=_DEFAULT,
    show_default=True,
    metavar="FILE",
    help="The file.",
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies in the directory of an upload route, and would be sent if it wasn't yet."""

    route: str
    directory: str
    files: int
    bytes: int
    problem: str


@click.group(no_args_is_help=False)
@global_options
def config_command(**_: object) -> None:
    """Check or show a configuration file."""


@config_command.command()
@_file_option
@verb
def check(settings: Settings, path: Path) -> ExitCode:
    """Check the file, and count what lies in its upload directories.

    Every fault is told with its line and what to do about it.
    """
    config = _load(path)
    _check_kafka(config)
    waiting = [_look(config.uploads[name]) for name in config.uploads]
    if settings.as_json:
        print_json(valid=True, uploads=waiting)
    else:
        say(f"{path}: {_summary(config)}")
        for one in waiting:
            _tell(one)
    return ExitCode.FAILED if any(one.problem for one in waiting) else ExitCode.DONE


@config_command.command()
@_file_option
@verb
def show(settings: Settings, path: Path) -> None:
    """Show the file with all defaults, and with secrets hidden."""
    from kfd import config as configuration  # noqa: PLC0415 - costs pydantic

    config = _load(path)
    if settings.as_json:
        print_json(config=config.model_dump(mode="json"))
    else:
        say(configuration.show(config).rstrip("\n"))


def _load(path: Path) -> Config:
    from kfd import config as configuration  # noqa: PLC0415 - costs pydantic

    return configuration.load(path)


def _check_kafka(config: Config) -> None:
    """Read the secrets, and let Kafka's client look at the properties, as the daemon would."""
    from kfd.kafka import ClusterView, RefusedPropertyError  # noqa: PLC0415 - costs librdkafka

    try:
        ClusterView(config.kafka_properties())
    except RefusedPropertyError as error:
        raise error.placed(config.where("kafka", error.name)) from error


def _summary(config: Config) -> str:
    uploads, downloads = len(config.uploads), len(config.downloads)
    return f"valid; {count(uploads, 'upload')}, {count(downloads, 'download')}"


def _tell(waiting: Waiting) -> None:
    if waiting.problem:
        note(f"! {waiting.route}: {waiting.problem}")
        return
    amount = f"{count(waiting.files, 'file')}, {human_size(waiting.bytes)}"
    say(f"{waiting.route}: {amount} in {waiting.directory}")


def _look(route: Upload) -> Waiting:
    directory = str(route.directory)
    try:
        sizes = list(_sizes(route))
    except OSError as error:
        return Waiting(route.name, directory, 0, 0, f"{escape(error.filename)}: {error.strerror}")
    return Waiting(route.name, directory, len(sizes), sum(sizes), "")


def _sizes(route: Upload) -> Iterator[int]:
    """The sizes of the files that the route takes."""
    from kfd.selection import Selection  # noqa: PLC0415 - costs pathspec

    selection = Selection(route.include, route.exclude)
    top = os.fsencode(route.directory)
    for parent, directories, names in os.walk(top, onerror=_raise):
        below = os.path.relpath(parent, top)
        inside = b"" if below == b"." else below + b"/"
        directories[:] = [name for name in directories if selection.enters(inside + name)]
        for name in names:
            status = os.lstat(os.path.join(parent, name))
            if stat.S_ISREG(status.st_mode) and selection.takes(inside + name):
                yield status.st_size


def _raise(error: OSError) -> None:
    raise error
