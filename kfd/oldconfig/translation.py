"""What of an old program's file is kfd's, what kfd does by itself, and what nobody does any more.

One property of Kafka's client holds for all of kfd's clients, where the old programs have one set
for the producer and one for the consumer. Secrets are never taken over: they go into files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kfd.config.properties import ALIASES, RESERVED, is_secret
from kfd.oldconfig.reading import Entry, OldConfig

CLUSTER: Final = ("broker", "cluster")  # the second is what it was called before
CLIENTS: Final = ("producer", "consumer")
SERVICES: Final = ("openmsi_directory_stream_service", "data_file_directory_uploader")
_NEW_GROUPS: Final = {"create_new", "new"}

_OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "heartbeat": ("kfd sends no heartbeats to a topic", "metrics: and kfdctl status --check tell"),
    "log": ("kfd writes no log to a topic", "journalctl -u kfd; kfdctl events"),
    "kafkacrypto": (
        "kfd can't read what KafkaCrypto has encrypted",
        "drain the topic with the old program, then begin a new one; TLS and ACLs guard that",
    ),
}
_SERIALIZERS: Final = {"key.serializer", "value.serializer", "key.deserializer",
                       "value.deserializer"}  # fmt: skip
_WITHOUT: Final = {
    "fetch.min.bytes": "small files would wait for others, up to fetch.wait.max.ms",
    "message.max.bytes": "chunk_size is what counts",
    "node_id": "of KafkaCrypto",
}


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know. ``blocking``: until it is mended, kfd doesn't do what the old one did."""

    line: int
    text: str
    fix: str = ""
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """One of ``kafka:``; ``secret_file``: where the secret is to be, which is not in ``value``."""

    name: str
    value: str
    comment: str = ""
    secret_file: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line adds."""

    topic: str | None = None
    upload: str | None = None
    download: str | None = None
    format: str = "kfd"


@dataclass(slots=True)
class Imported:
    """What the file is in kfd's terms. ``left_out``: keys with the reason, in their order."""

    properties: list[Property] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    upload: dict[str, str] = field(default_factory=dict)
    download: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def translate(old: OldConfig, wanted: Wanted) -> Imported:
    """Never raises: what can't be translated is a note."""
    result = Imported()
    _routes(old, wanted, result)
    for section, entry in _client_entries(old):
        _property(section, entry, result)
    _look_at_servers(old, result)
    known = {*CLUSTER, *CLIENTS, *SERVICES}
    for section in old.sections.keys() - known:
        _other(section, old.lines.get(section, 1), result)
    result.notes.sort(key=lambda note: note.line)
    return result


def _client_entries(old: OldConfig) -> Iterator[tuple[str, Entry]]:
    for section in (*CLUSTER, *CLIENTS):
        for entry in old.sections.get(section, {}).values():
            yield section, entry


def _property(section: str, entry: Entry, result: Imported) -> None:
    name = ALIASES.get(entry.name, entry.name)
    if entry.name in _SERIALIZERS:
        _serializer(entry, result)
    elif entry.name in _WITHOUT:
        result.left_out.append((entry.name, _WITHOUT[entry.name]))
    elif name in RESERVED:
        if name not in {"group.id", "auto.offset.reset"}:  # those are the route's
            result.left_out.append((entry.name, RESERVED[name]))
    elif (before := _find(result, name)) is None:
        result.properties.append(_kept(name, entry, result))
    elif not before.secret_file and before.value != entry.value:
        text = f"{name} of [{section}] is another than before; kfd has one for all its clients"
        result.notes.append(Note(entry.line, text, f"{before.value} is kept: choose one"))


def _find(result: Imported, name: str) -> Property | None:
    return next((one for one in result.properties if one.name == name), None)


def _kept(name: str, entry: Entry, result: Imported) -> Property:
    comment = entry.written if entry.from_environment else ""
    if is_secret(name):
        return _secret(name, entry, result)
    if entry.value is None:
        blank = "CHANGE-ME:9092" if name == "bootstrap.servers" else "CHANGE-ME"
        text = f"{name}: {entry.written} is not set here"
        result.notes.append(Note(entry.line, text, "set it and import again, or edit", True))
        return Property(name, blank, comment)
    return Property(name, entry.value, comment)


def _secret(name: str, entry: Entry, result: Imported) -> Property:
    place = "kafka-password" if name == "sasl.password" else name.replace(".", "-")
    path = f"/etc/kfd/{place}"
    if entry.from_environment:
        how = f'printf %s "{entry.written}" | sudo install -m 0640 -g kfd /dev/stdin {path}'
    else:
        how = f"sudo install -m 0640 -g kfd /dev/null {path}, then write the value into it"
    result.notes.append(Note(entry.line, f"{name} is a secret: not taken over", how))
    comment = entry.written if entry.from_environment else ""
    return Property(name, "", comment, path)


def _serializer(entry: Entry, result: Imported) -> None:
    result.left_out.append((entry.name, "kfd writes and reads records itself"))
    usual = {"StringSerializer", "StringDeserializer", "DataFileChunkSerializer",
             "DataFileChunkDeserializer"}  # fmt: skip
    of_values = entry.name.startswith("value.")
    if entry.written not in usual or (of_values and entry.written.startswith("String")):
        text = f"{entry.name} is none for chunks of files"
        result.notes.append(Note(entry.line, text, "kfd moves files, and nothing else"))


def _look_at_servers(old: OldConfig, result: Imported) -> None:
    if _find(result, "bootstrap.servers") is not None:
        return
    result.properties.insert(0, Property("bootstrap.servers", "CHANGE-ME:9092"))
    text = "no bootstrap.servers in [broker]"
    line = old.lines.get("broker", old.lines.get("cluster", 1))
    result.notes.append(Note(line, text, "name the brokers in the result", True))


def _other(section: str, line: int, result: Imported) -> None:
    text, fix = _OTHERS.get(section, ("kfd has nothing for it", "see docs/migration.md"))
    result.notes.append(Note(line, f"[{section}]: {text}", fix, section == "kafkacrypto"))


def _routes(old: OldConfig, wanted: Wanted, result: Imported) -> None:
    service = next((old.sections[one] for one in SERVICES if one in old.sections), {})
    given = {name: entry.value or "" for name, entry in service.items()}
    topic = wanted.topic or given.get("topic_name")
    upload = wanted.upload or given.get("file_directory")
    if upload is not None:
        result.upload = {"directory": upload, "topic": topic or "CHANGE-ME"}
        if given.get("new_files_only", "true").lower() not in {"false", "no", "0", "off"}:
            result.upload["existing"] = "skip"
    if wanted.download is not None:
        result.download = {"directory": wanted.download, "topic": topic or "CHANGE-ME"}
        result.download |= _group(old.sections.get("consumer", {}), result)
    for route in (result.upload, result.download):
        if route and wanted.format != "kfd":
            route["format"] = wanted.format
    if (upload or wanted.download) and topic is None:
        result.notes.append(Note(1, "no topic", "give --topic TOPIC", True))
    _service_settings(service, result)


def _group(consumer: Mapping[str, Entry], result: Imported) -> dict[str, str]:
    """The download's part of ``[consumer]``."""
    found = {}
    group, start = consumer.get("group.id"), consumer.get("auto.offset.reset")
    if group is not None and (group.value or "").lower() not in {"", *_NEW_GROUPS}:
        found["group"] = group.value or ""
        text = f"group {group.value}: kfd goes on where the old program's commits are"
        fix = "never run both in one group: each would get a part of the records"
        result.notes.append(Note(group.line, text, fix))
    if start is not None and (start.value or "").lower() in {"latest", "largest", "end"}:
        found["start"] = "latest"
    return found


def _service_settings(service: Mapping[str, Entry], result: Imported) -> None:
    """What the predecessors' service has besides directory and topic."""
    values = {name: entry.value for name, entry in service.items() if entry.value}
    if "n_threads" in values:
        result.settings["pools"] = {"producer_threads": values["n_threads"]}
    if "chunk_size" in values:
        result.settings["chunk_size"] = values["chunk_size"]
    if "queue_max_size" in values:
        result.settings["queue"] = {"messages": values["queue_max_size"]}
    if (other := service.get("cluster_producer_config")) is not None:
        text = "cluster_producer_config names another file, with the brokers"
        fix = "import that one, with --upload-dir and --topic"
        result.notes.append(Note(other.line, text, fix, True))
