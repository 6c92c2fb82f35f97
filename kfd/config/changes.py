"""What differs between the configuration that runs and one that is to run: what a reload applies at
once, and what waits for a restart.

Applied at once are the routes, the catalogues, and what is asked for each time that it is needed.
Everything that Kafka's clients, the pools, the queue or the control socket were made with needs a
restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from kfd.config.model import Config

SECTIONS = ("uploads", "downloads", "catalogue")
LIVE = ("create_topics", "chunk_size", "spool_max", "quarantine_max", "history", "metrics")
_OWN = ("origin", "kafka", *SECTIONS, *LIVE)  # compared by rules of their own, or never different


@dataclass(frozen=True, slots=True)
class Changes:
    """Routes and catalogues by their full name (``uploads.scope3``), settings by their key
    (``queue.size``)."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    applied: tuple[str, ...]  # settings that hold at once
    restart: tuple[str, ...]  # those that hold only after a restart

    @property
    def nothing(self) -> bool:
        """Whether the two say the same."""
        return self == Changes((), (), (), (), ())


def changes(
    running: Config,
    wanted: Config,
    properties: Mapping[str, str],
    wanted_properties: Mapping[str, str],
) -> Changes:
    """What has to be done for ``wanted``; the properties are those of ``kafka:`` with their
    secrets, of which only the names are told."""
    restart = [*_other_settings(running, wanted), *_differing(properties, wanted_properties)]
    applied = [key for key in LIVE if getattr(running, key) != getattr(wanted, key)]
    if not _fits(running, wanted):
        applied.remove("chunk_size")
        restart.append("chunk_size")
    added, changed, removed = [], [], []
    for section in SECTIONS:
        old, new = _entries(running, section), _entries(wanted, section)
        added += [f"{section}.{name}" for name in new if name not in old]
        changed += [f"{section}.{name}" for name in new if name in old and new[name] != old[name]]
        removed += [f"{section}.{name}" for name in old if name not in new]
    return Changes(tuple(added), tuple(changed), tuple(removed), tuple(applied), tuple(restart))


def in_effect(running: Config, wanted: Config) -> Config:
    """What runs once all of ``wanted`` is applied that can be without a restart; its places are
    those of ``wanted``."""
    held = {key: getattr(running, key) for key in Config.model_fields if key not in _OWN}
    held |= {"origin": running.origin, "kafka": running.kafka}
    if not _fits(running, wanted):
        held["chunk_size"] = running.chunk_size
    return wanted.model_copy(update=held)


def _fits(running: Config, wanted: Config) -> bool:
    """Whether the queue that runs has room for a chunk."""
    return running.chunk_size == wanted.chunk_size or wanted.chunk_size <= running.queue.size


def _entries(config: Config, section: str) -> Mapping[str, object]:
    entries: Mapping[str, object] = getattr(config, section)
    return entries


def _other_settings(running: Config, wanted: Config) -> Iterator[str]:
    for key in Config.model_fields:
        if key not in _OWN:
            yield from _below(key, getattr(running, key), getattr(wanted, key))


def _below(key: str, old: object, new: object) -> Iterator[str]:
    """The keys of a setting, or in its section, that differ."""
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        for name in type(old).model_fields:
            yield from _below(f"{key}.{name}", getattr(old, name), getattr(new, name))
    elif old != new:
        yield key


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = dict.fromkeys([*old, *new])
    return [f"kafka.{name}" for name in names if old.get(name) != new.get(name)]
