"""What librdkafka refuses of the section ``kafka:``, all of it at once: by itself it names one
property at a time, by a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kfd.config.wrong import Wrong
from kfd.errors import ConfigError
from kfd.kafka import refusal

if TYPE_CHECKING:
    from kfd.config import Config

_NO_PROPERTY = "kfd.no.such.property"
_SOMETHING = "PLAIN"  # a name, a password and a mechanism


def property_fault(name: str, value: str) -> Wrong | None:
    """What is wrong with one property, whatever the others are. No client is made."""
    # They are taken in their order: that the second is refused means that the first, which may
    # need others, is right by itself.
    found = refusal({name: value, _NO_PROPERTY: ""})
    if found is None or found.name == _NO_PROPERTY:
        return None
    what = found.said.replace(f'"{found.name}"', f'"{name}"')
    return Wrong(("kafka", name), what, found.fix)


def property_faults(config: Config, properties: Mapping[str, str]) -> list[ConfigError]:
    """What is wrong with ``properties``, those of ``config``; each with its file and line."""
    each = (property_fault(name, value) for name, value in properties.items())
    alone = [fault for fault in each if fault is not None]
    wrong = {str(fault.key[1]) for fault in alone}
    rest = {name: value for name, value in properties.items() if name not in wrong}
    return [
        *(_placed(config, str(fault.key[1]), fault.what, fault.fix) for fault in alone),
        *(_placed(config, *found) for found in _together(rest, wrong)),
    ]


def _together(rest: dict[str, str], wrong: set[str]) -> Iterator[tuple[str, str, str]]:
    """What is wrong between properties that are right by themselves: name, what, fix."""
    while (error := refusal(rest)) is not None:
        name = error.name
        if name not in wrong:
            yield name, error.said, error.fix
            wrong.add(name)
        elif not name or rest.get(name) == _SOMETHING:
            return
        if name in rest:
            del rest[name]
        else:
            rest[name] = _SOMETHING  # it is missed


def _placed(config: Config, name: str, what: str, fix: str) -> ConfigError:
    written = config.kafka.written.get(name, name)
    key = f"kafka.{written}" if written else "kafka"
    shown = what.replace(f'"{name}"', f'"{written}"')
    return ConfigError(f"{key}: {shown}", where=config.where("kafka", name), fix=fix)
