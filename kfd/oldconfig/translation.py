"""What of an old program's file is kfd's, what kfd does by itself, and what nobody does any more.

One property of Kafka's client holds for all of kfd's clients, where the old programs have one set
for the producer and one for the consumer. Secrets are never taken over: they go into files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kfd.config.properties import ALIASES, RESERVED, is_secret
from kfd.oldconfig.imported import UNKNOWN, Imported, Note, Property, Wanted
from kfd.oldconfig.reading import Entry, OldConfig
from kfd.oldconfig.routes import SERVICES, translate_routes

CLUSTER: Final = ("broker", "cluster")  # the second is what it was called before
CLIENTS: Final = ("producer", "consumer")

_BROKER: Final = f"{UNKNOWN}:9092"

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


def translate(old: OldConfig, wanted: Wanted) -> Imported:
    """Never raises: what can't be translated is a note."""
    result = Imported()
    translate_routes(old, wanted, result)
    for section, entry in _client_entries(old):
        _property(section, entry, result)
    _look_at_servers(old, result)
    known = {*CLUSTER, *CLIENTS, *SERVICES}
    for section in old.sections.keys() - known:
        _other(section, old.lines.get(section, 1), result)
    result.notes = list(dict.fromkeys(result.notes))  # what is for all sections is met in each
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
    elif not before.secret_file and result.value(name, entry) not in {None, before.value}:
        text = f"{name} of [{section}] is another than before; kfd has one for all its clients"
        result.told(entry, text, f"{before.value} is kept: choose one")


def _find(result: Imported, name: str) -> Property | None:
    return next((one for one in result.properties if one.name == name), None)


def _kept(name: str, entry: Entry, result: Imported) -> Property:
    comment = entry.written if entry.from_environment else ""
    if is_secret(name):
        return _secret(name, entry, result)
    value = result.value(name, entry)
    if value is None:
        value = _BROKER if name == "bootstrap.servers" else UNKNOWN
    return Property(name, value, comment)


def _secret(name: str, entry: Entry, result: Imported) -> Property:
    result.lines.setdefault(name, entry.line)
    place = "kafka-password" if name == "sasl.password" else name.replace(".", "-")
    path = f"/etc/kfd/{place}"
    if entry.from_environment:
        how = f'printf %s "{entry.written}" | sudo install -m 0640 -g kfd /dev/stdin {path}'
    else:
        how = f"sudo install -m 0640 -g kfd /dev/null {path}, then write the value into it"
    result.told(entry, f"{name} is a secret: not taken over", how)
    comment = entry.written if entry.from_environment else ""
    return Property(name, "", comment, path)


def _serializer(entry: Entry, result: Imported) -> None:
    result.left_out.append((entry.name, "kfd writes and reads records itself"))
    usual = {"StringSerializer", "StringDeserializer", "DataFileChunkSerializer",
             "DataFileChunkDeserializer"}  # fmt: skip
    of_values = entry.name.startswith("value.")
    if entry.written not in usual or (of_values and entry.written.startswith("String")):
        text = f"{entry.name} is none for chunks of files"
        result.told(entry, text, "kfd moves files, and nothing else")


def _look_at_servers(old: OldConfig, result: Imported) -> None:
    if _find(result, "bootstrap.servers") is not None:
        return
    result.properties.insert(0, Property("bootstrap.servers", _BROKER))
    text = "no bootstrap.servers in [broker]"
    line = old.lines.get("broker", old.lines.get("cluster", 1))
    result.notes.append(Note(line, text, "name the brokers in the result", True))


def _other(section: str, line: int, result: Imported) -> None:
    text, fix = _OTHERS.get(section, ("kfd has nothing for it", "see docs/migration.md"))
    result.notes.append(Note(line, f"[{section}]: {text}", fix, section == "kafkacrypto"))
