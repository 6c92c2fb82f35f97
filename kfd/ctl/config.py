"""``kfdctl config check`` and ``config show``: a configuration file, without the daemon."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kfd.ctl.importing import import_command
from kfd.ctl.render import count, note, plain, print_json, say, say_wrapped
from kfd.ctl.settings import Settings, global_options, verb
from kfd.ctl.verbs import VerbGroup
from kfd.errors import ExitCode, UsageError, all_of
from kfd.paths import escape
from kfd.unit import CONFIG, UNIT, of_config, restart
from kfd.units import human_size

if TYPE_CHECKING:
    from kfd.config import Config, Upload

_FILE = click.Path(path_type=Path, readable=False)  # what it can't be read for is said by kfd
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _file_options(command: _Command) -> _Command:
    """The file, as an argument or as an option."""
    option = click.option("--config", "named", type=_FILE, metavar="FILE", help="The same.")
    argument = click.argument("file", type=_FILE, required=False, metavar="[FILE]")
    return option(argument(command))


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies in the directory of an upload route, and is sent unless it was already."""

    route: str
    directory: str
    files: int
    bytes: int
    problem: str


@click.group(cls=VerbGroup, no_args_is_help=False)
@global_options
def config_command(**_: object) -> None:
    """Check, show or import a configuration file."""


config_command.add_command(import_command)


@config_command.command()
@_file_options
@verb
def check(settings: Settings, file: Path | None, named: Path | None) -> ExitCode:
    """Check FILE (/etc/kfd/kfd.yaml), and count what lies in its upload directories.

    Every fault is told with its line and what to do about it: of the file, of the directories,
    groups and secrets that it names, and what the service's sandbox forbids.
    """
    from kfd.config import load  # noqa: PLC0415 - costs pydantic
    from kfd.propertyfaults import property_fault  # noqa: PLC0415 - costs librdkafka

    path = _chosen(file, named)
    config = load(path, property_fault)
    _check_host(config, path)
    waiting = [_look(config.uploads[name]) for name in config.uploads]
    if settings.as_json:
        print_json(valid=True, uploads=waiting)
    else:
        say_wrapped(plain(f"{path}: {_summary(config)}"))
        for one in waiting:
            _tell(one)
    return ExitCode.FAILED if any(one.problem for one in waiting) else ExitCode.DONE


@config_command.command()
@_file_options
@verb
def show(settings: Settings, file: Path | None, named: Path | None) -> None:
    """Show FILE (/etc/kfd/kfd.yaml) with all defaults, and with secrets hidden."""
    from kfd import config as configuration  # noqa: PLC0415 - costs pydantic

    config = configuration.load(_chosen(file, named))
    if settings.as_json:
        print_json(config=config.model_dump(mode="json"))
    else:
        say(configuration.show(config).rstrip("\n"))


def _chosen(file: Path | None, named: Path | None) -> Path:
    if file is not None and named is not None:
        raise UsageError("FILE and --config are the same", fix="give one of the two")
    return file or named or CONFIG


def _check_host(config: Config, path: Path) -> None:
    """What the file needs on this host, and Kafka's client of it; all faults at once.

    A service's own file is looked at as that service would; another one as this user.
    """
    from kfd.config import in_order  # noqa: PLC0415 - costs pydantic
    from kfd.ctl.hostchecks import (  # noqa: PLC0415 - costs pydantic
        host_faults,
        missing_group,
        properties_of,
    )
    from kfd.ctl.service import service  # noqa: PLC0415 - likewise
    from kfd.propertyfaults import property_faults  # noqa: PLC0415 - costs librdkafka

    named = of_config(path)
    unit = service(named) if named is not None else None
    properties, faults = properties_of(config, unit)
    faults += host_faults(config, unit, path if unit is not None else None)
    unread = {name: "?" for name in config.kafka.values if name.startswith("sasl.")}
    faults += property_faults(config, unread | properties)
    if faults:
        raise all_of(in_order(faults))
    wanted = unit is not None or "control_group" in config.model_fields_set
    if wanted and (missing := missing_group(config)):
        note(plain(f"! {config.where('control_group')}: control_group: {missing}"))
        note(f"  fix: groupadd {config.control_group}; then {restart(named or UNIT)}")


def _summary(config: Config) -> str:
    uploads, downloads = len(config.uploads), len(config.downloads)
    return f"valid; {count(uploads, 'upload')}, {count(downloads, 'download')}"


def _tell(waiting: Waiting) -> None:
    if waiting.problem:
        note(plain(f"! {waiting.route}: {waiting.problem}"))
        return
    amount = f"{count(waiting.files, 'file')}, {human_size(waiting.bytes)}"
    say_wrapped(plain(f"{waiting.route}: {amount} in {waiting.directory}"))


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
