"""Ways into a configuration: a file, the options of the command line, plain values; and one out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from kfd import yamlfile
from kfd.config.faults import faults_of, placed, shown, without_echoes
from kfd.config.model import Config
from kfd.config.properties import well_formed
from kfd.config.wrong import Wrong
from kfd.errors import ConfigError, KfdError, UsageError
from kfd.yamlfile import KeyPath, Places

Judge = Callable[[str, str], Wrong | None]
_Fault = TypeVar("_Fault", bound=KfdError)


def load(path: Path, judge: Judge | None = None) -> Config:
    """The configuration in a file.

    Raises :class:`ConfigError` with all its faults at once, each with file, line, key and fix, or
    :class:`kfd.errors.PermissionProblemError`. Secrets aren't read here. ``judge`` says what is
    wrong with a property of Kafka's; it is asked only where there are other faults, so that these
    aren't all: see :mod:`kfd.propertyfaults`.
    """
    document = yamlfile.read(path)
    duplicates = [
        ConfigError(f"{shown(key)}: written twice", where=place, fix="remove one of the two")
        for key, place in document.duplicates
    ]
    values = {} if document.value is None else document.value
    if not isinstance(values, dict):
        raise ConfigError("not a mapping", where=f"{path.name}:1", fix="write KEY: VALUE lines")
    return from_values(values, document.places, duplicates, judge)


def from_values(
    values: Mapping[str, object],
    places: Places | None = None,
    earlier: Iterable[ConfigError] = (),
    judge: Judge | None = None,
) -> Config:
    """The configuration that these values are, all scalars as text.

    Raises :class:`ConfigError` with all faults, those found ``earlier`` too.
    """
    places = places or Places()
    wrong, earlier = faults_of(values), list(earlier)
    if judge is not None and (wrong or earlier):
        wrong = without_echoes([*wrong, *_refused(values, wrong, judge)])
    faults = in_order([*earlier, *placed(wrong, places)])
    if not faults:
        return Config.placed(values, places)
    if len(faults) == 1:
        raise faults[0]
    first = faults[0]
    raise ConfigError(first.what, where=first.where, fix=first.fix, faults=tuple(faults))


def _refused(values: Mapping[str, object], wrong: Iterable[Wrong], judge: Judge) -> Iterator[Wrong]:
    """What ``judge`` says against properties that are not ``wrong`` yet."""
    known = {fault.key for fault in wrong}
    for name, value in well_formed(values.get("kafka")):
        if ("kafka", name) not in known and (fault := judge(name, value)) is not None:
            yield fault


def from_flags(bootstrap: str, topic: str, upload: Path | None, download: Path | None) -> Config:
    """The configuration of ``--bootstrap``, ``--topic``, ``--upload``, ``--download``.

    The routes are called ``upload`` and ``download``; relative directories are those below the
    working directory. Raises :class:`UsageError` if there is no route, else as :func:`from_values`.
    """
    if upload is None and download is None:
        raise UsageError("nothing to do", fix="name a directory: --upload DIR, --download DIR")
    values: dict[str, object] = {"kafka": {"bootstrap.servers": bootstrap}}
    places: dict[KeyPath, str] = {("kafka",): "--bootstrap"}
    if upload is not None:
        values["uploads"] = {"upload": {"directory": _absolute(upload), "topic": topic}}
        places |= _options("uploads", "upload")
    if download is not None:
        route = {"directory": _absolute(download), "topic": topic, "layout": "{path}"}
        values["downloads"] = {"download": route}
        places |= _options("downloads", "download")
    return from_values(values, Places(places))


def show(config: Config) -> str:
    """The configuration in effect as YAML, defaults written out, secrets hidden."""
    effective = _without_none(config.model_dump(mode="json"))
    return yaml.safe_dump(effective, sort_keys=False, allow_unicode=True)


def in_order(faults: Iterable[_Fault]) -> list[_Fault]:
    """As they stand in the file."""
    # places differ in the line number only: a shorter one is a smaller one
    return sorted(faults, key=lambda fault: (len(fault.where), fault.where))


def _absolute(directory: Path) -> str:
    # The working directory may have .. from the shell; symlinks stay what they are.
    return os.path.abspath(directory)


def _options(section: str, name: str) -> dict[KeyPath, str]:
    return {(section, name): f"--{name}", (section, name, "topic"): "--topic"}


def _without_none(value: object) -> object:
    """A key without a value is one that isn't written."""
    if not isinstance(value, dict):
        return value
    return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
