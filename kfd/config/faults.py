"""Turns what pydantic found wrong into faults that name key, line and the nearest right thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from kfd.config.catalogues import CasJobsCatalogue, SqlCatalogue
from kfd.config.librdkafka import NO_PROPERTY
from kfd.config.model import Config, Download, Upload
from kfd.config.sections import NAME_KEY
from kfd.config.wrong import Wrong, WrongValuesError, nearest
from kfd.errors import ConfigError
from kfd.units import WrongValueError
from kfd.yamlfile import KeyPath, Places

_KEY_ITSELF = "[key]"  # pydantic's last part of the place of a mapping's key
_HARMLESS_KEY = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)


def faults_of(values: Mapping[str, object]) -> list[Wrong]:
    """Everything that is wrong, in no order; empty if the values are a configuration.

    What keys contradict each other shows only when each of them is right. So what is wrong is
    taken out and the rest is looked at once more.
    """
    faults = _validated(values)
    if not faults:
        return []
    known = [_removable(fault.key) for fault in faults]
    rest = _without(values, known)
    return faults + [new for new in _validated(rest) if not _within(new.key, known)]


def placed(faults: Iterable[Wrong], places: Places) -> list[ConfigError]:
    """The faults as errors with their places."""
    return [
        ConfigError(
            f"{shown(wrong.key)}: {wrong.what}", where=places.where(wrong.key), fix=wrong.fix
        )
        for wrong in faults
    ]


def shown(key: KeyPath) -> str:
    """``uploads.scope3.topic``. A key that cannot be one is not shown: it may be a slip in a line
    that holds a secret (``{sasl.password:secret}``)."""
    parts = [part if _HARMLESS_KEY.fullmatch(part) else "?" for part in map(str, key)]
    return ".".join(parts) or "configuration"


def _validated(values: Mapping[str, object]) -> list[Wrong]:
    try:
        Config.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return without_echoes([fault for detail in details for fault in _translated(detail)])
    return []


def _translated(detail: Mapping[str, Any]) -> list[Wrong]:
    place: KeyPath = tuple(part for part in detail["loc"] if part != _KEY_ITSELF)
    key = _without_kind(place)
    match detail["type"]:
        case "extra_forbidden":
            return [Wrong(key, "unknown key", _meant(str(key[-1]), place[:-1]))]
        case "missing":
            return [Wrong(key, "missing", f"add {key[-1]}: {_EXAMPLES[str(key[-1])]}")]
        case "value_error":
            return _refused(key, detail["ctx"]["error"])
        case "default_factory_not_called":
            return []  # it needs a key that has a fault of its own
        case _:
            return [Wrong(key, "not a mapping", "write KEY: VALUE lines below it, indented")]


def _without_kind(place: KeyPath) -> KeyPath:
    """pydantic's place within a catalogue has its kind after its name, which no file has."""
    return (*place[:2], *place[3:]) if place[:1] == ("catalogue",) else place


def _refused(key: KeyPath, cause: Exception) -> list[Wrong]:
    if isinstance(cause, WrongValuesError):
        return [Wrong((*key, *fault.key), fault.what, fault.fix) for fault in cause.faults]
    assert isinstance(cause, WrongValueError)
    return [Wrong(key, str(cause), cause.fix)]


# What the keys that have no default look like.
_EXAMPLES = {
    "directory": "/absolute/path",
    "topic": "NAME",
    "url": "postgresql+psycopg://USER@HOST/DATABASE",
}


def _meant(name: str, section: KeyPath) -> str:
    """What may have been meant by a key that isn't known in this section."""
    kind = {"uploads": "downloads", "downloads": "uploads"}.get(str(section[0]) if section else "")
    if kind is not None and len(section) > 1 and name in _known_keys((kind, "")):
        return f"{name} is for {kind}: remove the line"
    return nearest(name, _known_keys(section))


def _known_keys(section: KeyPath) -> list[str]:
    match section:
        case ("uploads", _):
            return _keys(Upload)
        case ("downloads", _):
            return _keys(Download)
        case ("catalogue", _, "casjobs"):
            return _keys(CasJobsCatalogue)
        case ("catalogue", _, _):
            return _keys(SqlCatalogue)
        case (str(name),):
            model = Config.model_fields[name].annotation
            assert isinstance(model, type)
            assert issubclass(model, BaseModel)
            return _keys(model)
        case _:
            return _keys(Config)


def _keys(model: type[BaseModel]) -> list[str]:
    fields = model.model_fields.items()
    return [name for name, info in fields if info.validation_alias != NAME_KEY]


def without_echoes(faults: list[Wrong]) -> list[Wrong]:
    """A key that is missing because it is misspelt is one fault, not two."""
    unknown = ("unknown key", NO_PROPERTY)
    misspelt = {(*fault.key[:-1], fault.fix) for fault in faults if fault.what in unknown}
    return [
        fault
        for fault in faults
        if fault.what != "missing"
        or (*fault.key[:-1], f'did you mean "{fault.key[-1]}"?') not in misspelt
    ]


def _removable(key: KeyPath) -> KeyPath:
    """What is taken out for a fault: of a route or catalogue all, as it may need the key."""
    return key[:2] if key[:1] in {("uploads",), ("downloads",), ("catalogue",)} else key


def _within(key: KeyPath, known: Iterable[KeyPath]) -> bool:
    return any(key[: len(removed)] == removed for removed in known)


def _without(values: Mapping[str, object], keys: Iterable[KeyPath]) -> dict[str, object]:
    return {
        name: _without(value, [key[1:] for key in keys if key[0] == name and len(key) > 1])
        if isinstance(value, dict)
        else value
        for name, value in values.items()
        if (name,) not in keys
    }
