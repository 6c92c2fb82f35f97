"""The configuration as immutable values: every key of ``etc/kfd.yaml`` with its default.

Durations are seconds, sizes are bytes, rates are bytes a second, modes are permission bits.
Values come in as text (see :mod:`kfd.config.values`); build a configuration with
:func:`kfd.config.load` or :func:`kfd.config.from_values`, not by these classes themselves.
Keys of features that are not there yet take their default only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    model_validator,
)

from kfd.config.address import AddressOrOff
from kfd.config.catalogues import Catalogue
from kfd.config.properties import KafkaProperties, parse_properties
from kfd.config.secrets import revealed
from kfd.config.sections import NAME_KEY, Section, named
from kfd.config.values import (
    KEEP,
    ChunkSize,
    Directory,
    DirectoryMode,
    Duration,
    FileMode,
    Flag,
    Given,
    Group,
    LayoutText,
    Metadata,
    MinFree,
    Name,
    Patterns,
    Rate,
    Size,
    SomePatterns,
    Thereafter,
    Topic,
    UnixGroup,
    at_least,
    choice,
    count,
    empty_section,
    only,
    only_value,
)
from kfd.config.wrong import Wrong, WrongValuesError
from kfd.errors import KfdError
from kfd.paths import Layout
from kfd.units import Room, write_size
from kfd.yamlfile import Places

Existing = Literal["send", "skip"]
Watch = Literal["auto", "inotify", "poll"]
Start = Literal["earliest", "latest"]
Count = Annotated[int, count(1, 1000)]
Interval = Annotated[Duration, at_least(0.1, "100ms")]
Format = Literal["kfd", "openmsistream"]  # of records


class Upload(Section):
    """A route from a directory to a topic."""

    name: str = Field(validation_alias=NAME_KEY, exclude=True)
    directory: Directory
    topic: Topic
    include: SomePatterns = ("*",)
    exclude: Patterns = (".*", "~*", "*.tmp", "*.part")
    existing: Annotated[Existing, choice(Existing)] = "send"
    watch: Annotated[Watch, choice(Watch)] = "auto"
    poll_every: Interval = 10.0
    settle: Annotated[Interval | None, Given] = None  # None: as the watcher has it
    then: Thereafter = KEEP
    receivers: Count = 1  # of whose receipts make a file delivered
    rate_limit: Rate = None
    send: Flag = True
    meta: Metadata = Field(default_factory=dict)  # goes with each file, below what --meta says
    format: Annotated[Format, choice(Format)] = "kfd"
    seal_to: Annotated[tuple[str, ...], only([], (), "sealing comes later")] = ()


class Download(Section):
    """A route from a topic to a directory."""

    name: str = Field(validation_alias=NAME_KEY, exclude=True)
    topic: Topic
    directory: Directory
    layout: LayoutText = Layout.parse("{origin}/{path}")
    group: Group = Field(default_factory=lambda earlier: f"kfd-{earlier['name']}")
    start: Annotated[Start, choice(Start)] = "earliest"
    file_mode: FileMode = 0o640
    directory_mode: DirectoryMode = 0o750
    owner_group: Annotated[UnixGroup | None, Given] = None  # None: the daemon's
    min_free: MinFree = Room(share=0.01)
    format: Annotated[Format, choice(Format)] = "kfd"
    max_size: Annotated[Size, at_least(1, "1B")] = 2**40
    incomplete_timeout: Annotated[Duration, at_least(1.0, "1s")] = 86400.0
    meta: Metadata = Field(
        default_factory=dict
    )  # goes into the ledger and catalogues, above what the sender says
    sealed: Annotated[Flag, only_value("false", False, "sealing comes later")] = False


class Pools(Section):
    """How many threads send and receive; the same number for every route that receives."""

    producer_threads: Annotated[int, count(1, 256)] = 5
    consumer_threads: Annotated[int, count(1, 256)] = 5


class Queue(Section):
    """What may wait in memory to be sent."""

    messages: Annotated[int, count(1, 10_000_000)] = 3000
    size: Size = 64 * 2**20


class Config(Section):
    """All of it. Two configurations are equal if they say the same, wherever it is written."""

    origin: Annotated[Name | None, Given] = (
        None  # None: the ledger's, or the host name at first start
    )
    kafka: Annotated[
        KafkaProperties, PlainSerializer(KafkaProperties.shown), PlainValidator(parse_properties)
    ] = KafkaProperties()
    uploads: Annotated[dict[Name, Upload], BeforeValidator(named)] = Field(default_factory=dict)
    downloads: Annotated[dict[Name, Download], BeforeValidator(named)] = Field(default_factory=dict)
    create_topics: Flag = True
    chunk_size: ChunkSize = 512 * 2**10
    pools: Annotated[Pools, BeforeValidator(empty_section)] = Pools()
    queue: Annotated[Queue, BeforeValidator(empty_section)] = Queue()
    spool_max: Size = 20 * 2**30
    quarantine_max: Size = 10 * 2**30
    control_group: UnixGroup = "kfd"
    metrics: AddressOrOff = None  # for Prometheus
    catalogue: Annotated[dict[Name, Catalogue], BeforeValidator(named)] = Field(
        default_factory=dict
    )
    history: Annotated[Duration, at_least(3600.0, "1h")] = 90 * 86400.0

    _places: Places = PrivateAttr(default_factory=Places)

    @classmethod
    def placed(cls, values: Mapping[str, object], places: Places) -> Self:
        """Validate; raises pydantic's ``ValidationError``. ``places`` is for :meth:`where`."""
        config = cls.model_validate(values)
        config._places = places  # noqa: SLF001 - its own, and not yet anyone else's
        return config

    def where(self, *key: str | int) -> str:
        """Where a key was written, ``kfd.yaml:21`` or an option; or the nearest key around it.

        For faults that show only later, such as a directory that is missing:
        ``config.where("uploads", "scope3", "directory")``.
        """
        if key[:1] == ("kafka",) and len(key) == 2:
            key = ("kafka", self.kafka.written.get(str(key[1]), key[1]))
        return self._places.where(key)

    def kafka_properties(self) -> dict[str, str]:
        """The properties for librdkafka, with their secrets: never log, show or keep them.

        Reads the files that hold the secrets; raises :class:`kfd.errors.ConfigError` or
        :class:`kfd.errors.PermissionProblemError`.
        """
        return self.kafka.resolved(self._places)

    def catalogue_secret(self, name: str) -> str:
        """What a catalogue is used with: never log, show or keep it. Empty if it needs none.

        Reads the file that holds it; raises as :meth:`kafka_properties`.
        """
        wanted = self.catalogue[name].secret
        if wanted is None:
            return ""
        key = ("catalogue", name, wanted[0])
        return revealed(wanted[1], ".".join(key), self.where(*key))

    def each_kafka_property(self) -> Iterator[tuple[str, str | KfdError]]:
        """As :meth:`kafka_properties`, one by one: where a secret can't be read, why not."""
        return self.kafka.each(self._places)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = [
            *self.kafka.missing(),
            *_small_queue(self),
            *_shared_directories(self),
            *_unsafe_thens(self),
            *_unconfirmed(self),
            *_shared_groups(self),
        ]
        if faults:
            raise WrongValuesError(faults)
        return self


def _small_queue(config: Config) -> Iterator[Wrong]:
    if config.queue.size < config.chunk_size:
        chunk = write_size(config.chunk_size)
        yield Wrong(("queue", "size"), f"smaller than a chunk of {chunk}", f"at least {chunk}")


def _shared_directories(config: Config) -> Iterator[Wrong]:
    routes = [("uploads", upload.name, upload.directory) for upload in config.uploads.values()]
    routes += [("downloads", route.name, route.directory) for route in config.downloads.values()]
    for (kind, name, directory), (other_kind, other_name, other) in combinations(routes, 2):
        relation = _relation(other, directory)
        if relation and not kind == other_kind == "uploads":
            yield Wrong(
                (other_kind, other_name, "directory"),
                f"{other} {relation} that of {kind}.{name}",
                "give each download a directory of its own, apart from those of other routes",
            )


def _unsafe_thens(config: Config) -> Iterator[Wrong]:
    """Files must not be moved to where they are sent again or in a download's way, and none may
    go before every route has sent it."""
    routes = [("uploads", upload.name, upload.directory) for upload in config.uploads.values()]
    routes += [("downloads", route.name, route.directory) for route in config.downloads.values()]
    for upload in config.uploads.values():
        if upload.then == KEEP:
            continue
        for kind, name, directory in routes:
            target = upload.then.directory
            if target is not None and (relation := _relation(target, directory)):
                yield Wrong(
                    ("uploads", upload.name, "then"),
                    f"{target} {relation} the directory of {kind}.{name}",
                    "move files to a directory apart from those of all routes",
                )
            if kind == "uploads" and name != upload.name and _relation(upload.directory, directory):
                yield Wrong(
                    ("uploads", upload.name, "then"),
                    f"its files are those of uploads.{name} too, which may not have sent them yet",
                    "write keep, or give each route a directory of its own",
                )


def _unconfirmed(config: Config) -> Iterator[Wrong]:
    """What needs receipts doesn't go with a format that has none."""
    for upload in config.uploads.values():
        if upload.format == "kfd":
            continue
        if upload.then != KEEP:
            yield Wrong(
                ("uploads", upload.name, "then"),
                "files go once they are delivered, and nobody confirms what is sent in"
                " openmsistream's format",
                "write keep, or format: kfd",
            )
        if upload.receivers != 1:
            yield Wrong(
                ("uploads", upload.name, "receivers"),
                "nobody confirms what is sent in openmsistream's format",
                "leave it out, or write format: kfd",
            )


def _relation(one: Path, other: Path) -> str:
    if one == other:
        return "is also"
    if one.is_relative_to(other):
        return "is inside"
    return "is around" if other.is_relative_to(one) else ""


def _shared_groups(config: Config) -> Iterator[Wrong]:
    owners: dict[str, str] = {}
    for download in config.downloads.values():
        owner = owners.setdefault(download.group, download.name)
        if owner != download.name:
            yield Wrong(
                ("downloads", download.name, "group"),
                f"{download.group} is already the group of downloads.{owner}",
                "give each download a group of its own, else each gets a part of the files",
            )
