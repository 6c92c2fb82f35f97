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
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    model_validator,
)

from kfd.config.address import AddressOrOff
from kfd.config.properties import KafkaProperties, parse_properties
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

# The key under which the name of a route goes into its model. It cannot be meant in a file.
ROUTE_NAME = "(name)"


Existing = Literal["send", "skip"]
Watch = Literal["auto", "inotify", "poll"]
Start = Literal["earliest", "latest"]
Count = Annotated[int, count(1, 1000)]
Interval = Annotated[Duration, at_least(0.1, "100ms")]
Format = Annotated[str, only("kfd", "kfd", "the peer's wire format comes later")]


def named_routes(routes: object) -> object:
    """Give each route its name, and take an empty section or route for an empty mapping."""
    if routes is None:
        return {}
    if not isinstance(routes, dict):
        return routes
    return {
        name: {**(route or {}), ROUTE_NAME: name} if isinstance(route, dict | None) else route
        for name, route in routes.items()
    }


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class Upload(_Section):
    """A route from a directory to a topic."""

    name: str = Field(validation_alias=ROUTE_NAME, exclude=True)
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
    format: Format = "kfd"
    seal_to: Annotated[tuple[str, ...], only([], (), "sealing comes later")] = ()


class Download(_Section):
    """A route from a topic to a directory."""

    name: str = Field(validation_alias=ROUTE_NAME, exclude=True)
    topic: Topic
    directory: Directory
    layout: LayoutText = Layout.parse("{origin}/{path}")
    group: Group = Field(default_factory=lambda earlier: f"kfd-{earlier['name']}")
    start: Annotated[Start, choice(Start)] = "earliest"
    file_mode: FileMode = 0o640
    directory_mode: DirectoryMode = 0o750
    owner_group: Annotated[UnixGroup | None, Given] = None  # None: the daemon's
    min_free: MinFree = Room(share=0.01)
    format: Format = "kfd"
    max_size: Annotated[Size, at_least(1, "1B")] = 2**40
    incomplete_timeout: Annotated[Duration, at_least(1.0, "1s")] = 86400.0
    sealed: Annotated[Flag, only_value("false", False, "sealing comes later")] = False


class Pools(_Section):
    """How many threads send and receive; the same number for every route that receives."""

    producer_threads: Annotated[int, count(1, 256)] = 5
    consumer_threads: Annotated[int, count(1, 256)] = 5


class Queue(_Section):
    """What may wait in memory to be sent."""

    messages: Annotated[int, count(1, 10_000_000)] = 3000
    size: Size = 64 * 2**20


class Config(_Section):
    """All of it. Two configurations are equal if they say the same, wherever it is written."""

    origin: Annotated[Name | None, Given] = (
        None  # None: the ledger's, or the host name at first start
    )
    kafka: Annotated[
        KafkaProperties, PlainSerializer(KafkaProperties.shown), PlainValidator(parse_properties)
    ] = KafkaProperties()
    uploads: Annotated[dict[Name, Upload], BeforeValidator(named_routes)] = {}
    downloads: Annotated[dict[Name, Download], BeforeValidator(named_routes)] = {}
    create_topics: Flag = True
    chunk_size: ChunkSize = 512 * 2**10
    pools: Annotated[Pools, BeforeValidator(empty_section)] = Pools()
    queue: Annotated[Queue, BeforeValidator(empty_section)] = Queue()
    spool_max: Size = 20 * 2**30
    control_group: UnixGroup = "kfd"
    metrics: AddressOrOff = None  # for Prometheus
    catalogue: Annotated[dict[str, str], only({}, {}, "catalogues come later")] = {}
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
