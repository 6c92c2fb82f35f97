"""The section ``kafka``: any librdkafka property as text, save those that are kfd's own.

A value is text, or names where a secret lies (:mod:`kfd.config.secrets`). It is shown only where
its property is known to hold none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from kfd.config import secrets
from kfd.config.secrets import HIDDEN, CredentialSecret, FileSecret
from kfd.config.wrong import Wrong, WrongValuesError
from kfd.errors import KfdError, all_of
from kfd.units import WrongValueError
from kfd.yamlfile import Places

_SERVER = re.compile(
    r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.%a-z]+\]|[^\s:,/\[\]]+)(?::(0*[1-9][0-9]{0,4}))?", re.ASCII
)
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,99}", re.ASCII)

_A_PORT = 9092

_DELIVERY = "kfd waits for every acknowledgement itself, without loss or reordering"
_OFFSETS = "kfd commits offsets itself, after publishing"
_MEMBERSHIP = "kfd names the members of a group itself"
_CALLBACK = "it is for programs, not for a configuration"
_TRANSACTIONS = "kfd does not use Kafka's transactions"

RESERVED: Mapping[str, str] = {
    "acks": _DELIVERY,
    "request.required.acks": _DELIVERY,
    "enable.idempotence": _DELIVERY,
    "enable.gapless.guarantee": _DELIVERY,
    "max.in.flight": _DELIVERY,
    "max.in.flight.requests.per.connection": _DELIVERY,
    "retries": _DELIVERY,
    "message.send.max.retries": _DELIVERY,
    "message.timeout.ms": _DELIVERY,
    "delivery.timeout.ms": _DELIVERY,
    "delivery.report.only.error": _DELIVERY,
    "queuing.strategy": _DELIVERY,
    "transactional.id": _TRANSACTIONS,
    "transaction.timeout.ms": _TRANSACTIONS,
    "partitioner": "kfd chooses the partition of a file itself",
    "queue.buffering.max.messages": "write queue: {messages: N}",
    "queue.buffering.max.kbytes": "write queue: {size: SIZE}",
    "message.max.bytes": "write chunk_size: SIZE",
    "enable.auto.commit": _OFFSETS,
    "auto.commit.enable": _OFFSETS,
    "auto.commit.interval.ms": _OFFSETS,
    "enable.auto.offset.store": _OFFSETS,
    "offset.store.method": _OFFSETS,
    "enable.partition.eof": _OFFSETS,
    "auto.offset.reset": "write start: earliest, or latest, on the download",
    "group.id": "write group: NAME on the download",
    "group.instance.id": _MEMBERSHIP,
    "group.protocol.type": _MEMBERSHIP,
    "partition.assignment.strategy": _MEMBERSHIP,
    "allow.auto.create.topics": "write create_topics: true, or false",
    "metadata.broker.list": "write bootstrap.servers: HOST:PORT",
    "internal.termination.signal": "signals are the daemon's",
    "log.queue": _CALLBACK,
    "logger": _CALLBACK,
    "opaque": _CALLBACK,
    "interceptors": _CALLBACK,
    "enabled_events": _CALLBACK,
    "on_commit": _CALLBACK,
    "on_delivery": _CALLBACK,
    "default.topic.config": _CALLBACK,
    "default_topic_conf": _CALLBACK,
}

# librdkafka's other names of properties: as they are known here.
ALIASES: Mapping[str, str] = {
    "compression.codec": "compression.type",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "queue.buffering.max.ms": "linger.ms",
    "sasl.mechanisms": "sasl.mechanism",
}

# Below sasl. and ssl. every value is taken for a secret, so that a misspelt name shows none;
# elsewhere those whose name says so.
_SUSPECT = re.compile(r"sasl|ssl|pass|pwd|pw$|secret|token|credential|key|pem|jaas")
_HARMLESS = re.compile(
    r"sasl\.(mechanisms?|username|kerberos\.(service\.name|principal|keytab))"
    r"|sasl\.oauthbearer\.(method|scope|client\.id|token\.endpoint\.url|grant\.type)"
    r"|ssl\.(ca|certificate|key|crl|keystore)\.location"
    r"|ssl\.(cipher\.suites|curves\.list|sigalgs\.list|providers)"
    r"|ssl\.endpoint\.identification\.algorithm"
    r"|enable\.ssl\.certificate\.verification"
    r"|socket\.keepalive\.enable"
)


Property = str | FileSecret | CredentialSecret


@dataclass(frozen=True, slots=True, repr=False)
class KafkaProperties:
    """The properties as configured, by name, in their order; ``written``: by which other name."""

    values: Mapping[str, Property] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return f"KafkaProperties({self.shown()!r})"

    def shown(self) -> dict[str, str | dict[str, str]]:
        """The properties as they may be seen: no secret, but where it comes from."""
        return {name: _shown(name, value) for name, value in self.values.items()}

    def resolved(self, places: Places) -> dict[str, str]:
        """The properties with their secrets, for librdkafka only.

        Reads files: raises :class:`ConfigError` or :class:`PermissionProblemError` with the place
        of the property, and never with what a file holds.
        """
        found: dict[str, str] = {}
        faults: list[KfdError] = []
        for name, value in self.each(places):
            if isinstance(value, KfdError):
                faults.append(value)
            else:
                found[name] = value
        if faults:
            raise all_of(faults)
        return found

    def each(self, places: Places) -> Iterator[tuple[str, str | KfdError]]:
        """Each property with its secret, or with what keeps that from being read."""
        for name, value in self.values.items():
            written = self.written.get(name, name)
            try:
                yield name, _resolved(value, f"kafka.{written}", places.where(("kafka", written)))
            except KfdError as error:
                yield name, error

    def missing(self) -> list[Wrong]:
        """What every configuration has to name."""
        servers = self.values.get("bootstrap.servers")
        fix = "write the HOST:PORT of a broker, or several with commas between"
        if servers is None:
            return [Wrong(("kafka", "bootstrap.servers"), "missing", fix)]
        if isinstance(servers, str) and "CHANGE-ME" in servers:
            return [Wrong(("kafka", "bootstrap.servers"), "still CHANGE-ME", fix)]
        if isinstance(servers, str) and not _names_brokers(servers):
            return [Wrong(("kafka", "bootstrap.servers"), "not addresses of brokers", fix)]
        return []


def is_secret(name: str) -> bool:
    """Whether the value of this property must not be shown."""
    return _HARMLESS.fullmatch(name) is None and _SUSPECT.search(name) is not None


def parse_properties(section: object) -> KafkaProperties:
    """Raises :class:`WrongValuesError` with everything that is wrong, but no value."""
    if section is None:
        return KafkaProperties()
    if not isinstance(section, dict):
        raise WrongValueError("not a mapping", "write NAME: VALUE lines below it")
    values: dict[str, Property] = {}
    written: dict[str, str] = {}
    wrong: list[Wrong] = []
    for name, value in section.items():
        known = ALIASES.get(name, name)
        try:
            if known in values:
                raise WrongValueError(f"the same as {written[known]}", "remove one of the two")
            values[known] = _property(name, value)
            written[known] = name
        except WrongValueError as error:
            wrong.append(Wrong((name,), str(error), error.fix))
    if wrong:
        raise WrongValuesError(wrong)
    return KafkaProperties(values, written)


def well_formed(section: object) -> Iterator[tuple[str, str]]:
    """The properties whose value is text that kfd takes, under the names that are written."""
    for name, value in section.items() if isinstance(section, dict) else ():
        with suppress(WrongValueError):
            found = _property(name, value)
            if isinstance(found, str):
                yield name, found


def _names_brokers(servers: str) -> bool:
    """Whether each is HOST or HOST:PORT, an IPv6 address in brackets; also after PROTOCOL://."""
    found = [_SERVER.fullmatch(one.strip()) for one in servers.split(",")]
    return all(one is not None and int(one[3] or _A_PORT) < 65536 for one in found)


def _property(name: str, value: object) -> Property:
    if name in RESERVED:
        raise WrongValueError("kfd's own", RESERVED[name])
    if name.endswith("_cb"):
        raise WrongValueError("kfd's own", _CALLBACK)
    if _NAME.fullmatch(name) is None:
        raise WrongValueError("no name of a property", "write NAME: VALUE, with a space between")
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict) and len(value) == 1:
        return secrets.reference(*next(iter(value.items())))
    if value is None:
        raise WrongValueError("no value", "write one, or remove the line")
    raise WrongValueError("not text", secrets.FORMS)


def _text(value: str) -> str:
    if "\0" in value:
        raise WrongValueError("holds a NUL", "librdkafka cannot take it")
    return value


def _shown(name: str, value: Property) -> str | dict[str, str]:
    if not isinstance(value, str):
        return secrets.shown(value)
    return HIDDEN if is_secret(name) else value


def _resolved(value: Property, key: str, place: str) -> str:
    return value if isinstance(value, str) else secrets.read(value, key, place)
