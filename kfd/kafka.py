"""Looks at Kafka that are not about moving data: which topics there are, what they take.

Used by the daemon's topic watch; no thread of its own. Topics are looked at with
``describe_topics`` only: a producer's or an admin client's question by name may create one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from operator import methodcaller
from typing import Any, ParamSpec

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not all are in its __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from kfd.config.librdkafka import meaning
from kfd.config.properties import is_secret
from kfd.errors import ConfigError, KfdError

log = logging.getLogger(__name__)
_silent = logging.getLogger("kfd.librdkafka")
_silent.disabled = True  # it repeats itself many times a second; see error_cb instead

RECORD_OVERHEAD = 16 * 1024 + 512
"""Bytes that a record may need besides its chunk: the largest header, the key, the framing."""

_ANY_TOPIC = "__consumer_offsets"
_MOMENT = re.compile(r" \(after [0-9]+ms in state .*\)")
_START = "start the brokers, or mend kafka: in the configuration"
_NOTHING: Mapping[str, str] = {}
_ask_headers = methodcaller("headers")

Arguments = ParamSpec("Arguments")

ErrorHandler = Callable[[KafkaError], None]


class BrokerAwayError(KfdError):
    """No broker answers, or none lets us in."""

    retry = True


class RefusedPropertyError(ConfigError):
    """librdkafka refuses the property ``name`` (empty where it didn't say which)."""

    def __init__(self, name: str, what: str, fix: str) -> None:
        super().__init__(f"kafka.{name}: {what}" if name else f"kafka: {what}", fix=fix)
        self.name = name
        self.said = what

    def placed(self, where: str) -> ConfigError:
        """The same, with the file and line of the property."""
        return ConfigError(self.what, where=where, fix=self.fix)


class TopicRefusedError(KfdError):
    """The brokers answer, but won't show or make this topic."""

    retry = True


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens."""

    host: str
    port: int

    @property
    def shown(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Topic:
    """What a look at a topic showed. The limits are None where we may not read them."""

    name: str
    topic_id: str
    partitions: int
    max_record: int | None = None  # bytes (max.message.bytes)
    compacted: bool = False
    retention: float | None = None  # seconds; None: unknown or for ever


def client_properties(properties: Mapping[str, str], on_error: ErrorHandler) -> dict[str, Any]:
    """The properties that all of kfd's Kafka clients share.

    ``on_error`` is called in the thread that polls the client. A broker that comes back is found
    within a second, not librdkafka's ten; a partition that is added within ten, not 300.
    """
    return {
        "client.id": "kfd",
        "reconnect.backoff.ms": "100",
        "reconnect.backoff.max.ms": "1000",
        "socket.keepalive.enable": "true",
        "topic.metadata.refresh.interval.ms": "10000",
        **properties,
        "allow.auto.create.topics": "false",
        "log.connection.close": "false",
        "logger": _silent,
        "error_cb": on_error,
    }


def raising(callback: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """A callback for the client that may raise.

    What the client's own calls raise within a callback comes out of ``poll`` as a bare
    ``KafkaError``, which is no exception: no ``except`` takes it, and it ends the thread unseen.
    Once Python code has caught it, it comes out as it was raised.
    """

    @wraps(callback)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except KafkaException:
            raise

    return call


def groupless_consumer(
    properties: Mapping[str, str], on_error: ErrorHandler, own: Mapping[str, str] = _NOTHING
) -> Consumer:
    """A consumer that is in no group and commits nothing; ``own`` are properties of the caller's.

    Raises :class:`RefusedPropertyError`.
    """
    others = {name: value for name, value in properties.items() if not name.startswith("group.")}
    fixed = {
        "group.id": "kfd",  # librdkafka wants one; nobody joins it
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
    }
    try:
        return Consumer(client_properties(others, on_error) | fixed | dict(own))
    except (KafkaException, TypeError, ValueError) as error:
        raise refused_properties(error, properties) from error


def headers_of(message: Any) -> Sequence[tuple[str, bytes | None]] | None:
    """The headers of a record; none where the client can't show them, so that it is foreign.

    Of a header whose name isn't UTF-8 confluent-kafka gives a result and an exception at once.
    Called from C, that is a :class:`SystemError` here; a call that the interpreter has specialized
    after some records would have it come up anywhere later, and end the thread.
    """
    try:
        headers: Sequence[tuple[str, bytes | None]] | None = _ask_headers(message)
    except (SystemError, UnicodeDecodeError):
        return None
    return headers


def describe(error: KafkaError) -> str:
    """An error in words, without librdkafka's prefixes and milliseconds: the same each time."""
    text: str = _MOMENT.sub("", error.str())
    return text.removeprefix("Broker: ").removeprefix("Local: ").strip() or str(error.name())


def refused_properties(error: Exception, properties: Mapping[str, str]) -> RefusedPropertyError:
    """What librdkafka said when it was given ``properties``.

    Its texts may quote a value: where one does that may be a secret, only the property is named.
    """
    name, what, fix = meaning(_reason(error), properties)
    quoted = any(value and value in what for key, value in properties.items() if is_secret(key))
    return RefusedPropertyError(name, "not a value that librdkafka takes" if quoted else what, fix)


def refusal(properties: Mapping[str, str]) -> RefusedPropertyError | None:
    """What librdkafka has against these, in this order; the first of it only."""
    try:
        AdminClient(client_properties(properties, lambda _: None))
    except (KafkaException, TypeError, ValueError) as error:
        return refused_properties(error, properties)
    return None


class ClusterView:
    """A connection for looking at topics and making those that are missing.

    Methods may be called in any thread, wait at most ``timeout`` seconds for the brokers and
    raise :class:`BrokerAwayError` where none answers.
    """

    def __init__(self, properties: Mapping[str, str], timeout: float = 3.0) -> None:
        """Raises :class:`RefusedPropertyError`."""
        self._timeout = timeout
        self._last_error = ""
        self._properties = properties
        try:
            self._admin = AdminClient(client_properties(properties, self._on_error))
        except (KafkaException, TypeError, ValueError) as error:
            raise refused_properties(error, properties) from error

    def topics(self, names: Iterable[str]) -> dict[str, Topic | TopicRefusedError | None]:
        """Each topic as it is now, why it isn't shown, or None if it doesn't exist."""
        answers = self._admin.describe_topics(
            TopicCollection(list(names)), request_timeout=self._timeout
        )
        found: dict[str, Topic | TopicRefusedError | None] = {}
        for name, answer in answers.items():
            try:
                description = self._result(answer, name, {KafkaError.UNKNOWN_TOPIC_OR_PART})
            except TopicRefusedError as error:
                found[name] = error
                continue
            found[name] = description and Topic(
                name, str(description.topic_id), len(description.partitions)
            )
        return found

    def limits(self, topic: Topic) -> Topic:
        """``topic`` with its limits; as it was where we may not read configurations."""
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        answer = self._admin.describe_configs([resource], request_timeout=self._timeout)[resource]
        config = self._result(
            answer,
            topic.name,
            {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED},
        )
        if config is None:
            return topic
        retention_ms = int(config["retention.ms"].value)
        return Topic(
            topic.name,
            topic.topic_id,
            topic.partitions,
            max_record=int(config["max.message.bytes"].value),
            compacted="compact" in config["cleanup.policy"].value,
            retention=retention_ms / 1000 if retention_ms >= 0 else None,
        )

    def create(self, name: str) -> None:
        """Make a topic with the brokers' defaults. One that exists meanwhile is as good.

        But for its times, which are the brokers': with those of a sender whose clock is behind,
        retention would delete what nobody has read, and one that is ahead would be refused.
        """
        request = NewTopic(
            name,
            num_partitions=-1,
            replication_factor=-1,
            config={"message.timestamp.type": "LogAppendTime"},
        )
        answer = self._admin.create_topics([request], request_timeout=self._timeout)[name]
        self._result(answer, name, {KafkaError.TOPIC_ALREADY_EXISTS})

    def low_watermarks(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The oldest offset that each (topic, partition) still has; as :meth:`watermarks`."""
        return {one: low for one, (low, _) in self.watermarks(partitions).items()}

    def watermarks(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """The oldest offset that each (topic, partition) still has, and the one that comes next.

        Not by the admin client: asked for offsets while a broker goes away, it ends the process
        with a failed assertion (librdkafka 2.16). Raises :class:`TopicRefusedError` too.
        """
        found = {}
        for topic, partition in partitions:
            one = TopicPartition(topic, partition)
            try:
                answer = self._reader.get_watermark_offsets(one, self._timeout)
            except KafkaException as error:
                raise self._failure(topic, error, error.args[0].code()) from error
            if answer is None:
                raise BrokerAwayError(self._last_error or "no answer in time", fix=_START)
            found[topic, partition] = answer
        return found

    @cached_property
    def _reader(self) -> Consumer:
        """A client that reads nothing."""
        return groupless_consumer(self._properties, self._on_error)

    def brokers(self) -> int:
        """How many brokers the cluster has now."""
        return len(self.nodes())

    def nodes(self) -> list[BrokerAddress]:
        """The brokers that the cluster has now, where they say that they are.

        Not by the admin client: a broker that has just started, and knows none yet, would have it
        end the process with a failed assertion (librdkafka 2.16). A consumer's question about a
        topic doesn't make it.
        """
        try:
            found = self._reader.list_topics(_ANY_TOPIC, self._timeout)
        except KafkaException as error:
            with suppress(KafkaException):
                self._admin.poll(0)  # lets _on_error hear why
            raise self._failure("cluster", error, error.args[0].code()) from error
        self._last_error = ""
        return [BrokerAddress(one.host, one.port) for one in found.brokers.values()]

    def rights(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """What we may do with each topic, as brokers call it: ``WRITE``, ``DESCRIBE_CONFIGS``.
        Those that don't exist, or aren't shown, are left out."""
        answers = self._admin.describe_topics(
            TopicCollection(list(names)),
            include_authorized_operations=True,
            request_timeout=self._timeout,
        )
        found = {}
        for name, answer in answers.items():
            with suppress(TopicRefusedError):
                description = self._result(answer, name, {KafkaError.UNKNOWN_TOPIC_OR_PART})
                if description is not None and description.authorized_operations is not None:
                    allowed = description.authorized_operations
                    found[name] = frozenset(operation.name for operation in allowed)
        return found

    def appended_at(self, topic: str, partition: int, offset: int) -> float | None:
        """When the brokers appended this record, by their clock (seconds since the epoch); None if
        it isn't there any more, or has its sender's time. Reads that one record. Raises
        :class:`TopicRefusedError` too."""
        low, coming = self.watermarks([(topic, partition)])[topic, partition]
        if not low <= offset < coming:
            return None
        client = self._reader
        client.assign([TopicPartition(topic, partition, offset)])
        try:
            message = client.poll(self._timeout)
        finally:
            client.unassign()
        if message is None or message.error() is not None or message.offset() != offset:
            return None
        kind, milliseconds = message.timestamp()
        return milliseconds / 1000 if kind == TIMESTAMP_LOG_APPEND_TIME else None

    def _on_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._last_error = describe(error)

    def _result(self, answer: Future[Any], what: str, expected: set[int]) -> Any:
        """The answer; None for an ``expected`` error."""
        try:
            result = answer.result(self._timeout + 1)
        except (KafkaException, TimeoutError) as error:
            code = error.args[0].code() if isinstance(error, KafkaException) else None
            if code in expected:
                return None
            with suppress(KafkaException):
                self._admin.poll(0)  # lets _on_error hear why
            raise self._failure(what, error, code) from error
        self._last_error = ""
        return result

    def _failure(self, what: str, error: Exception, code: int | None) -> KfdError:
        """What an error of the client means."""
        if code is not None and code >= 0:
            return TopicRefusedError(
                f"the brokers refuse {what}: {_reason(error)}",
                fix="look at its name, and at what the brokers' ACLs allow kfd",
            )
        return BrokerAwayError(self._last_error or _reason(error), fix=_START)


def _reason(error: Exception) -> str:
    if isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError):
        return describe(error.args[0])
    return str(error) or type(error).__name__
