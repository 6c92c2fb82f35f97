"""The routes: what the command line adds, ``[consumer]``, and the section of the predecessors'
service, of which every key is taken over or told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from kfd.config.values import chunk_size_below
from kfd.oldconfig.imported import UNKNOWN, Imported, Note, Wanted
from kfd.oldconfig.reading import Entry, OldConfig

SERVICES: Final = ("openmsi_directory_stream_service", "data_file_directory_uploader")

_NEW_GROUPS: Final = {"", "create_new", "new"}  # a group of its own at each start
_DIGITS: Final = 18  # of a size; one that has more is no size, as what is made of it says
_NO: Final = {"false", "no", "0", "off"}
_LITERAL: Final = r"(?:[A-Za-z0-9_-]|\\\.)+"
_CONTAINS: Final = re.compile(rf"\^?\.\*({_LITERAL})(\$?)")  # at any place, or at the end

_ROUTE: Final = {"file_directory", "topic_name", "new_files_only", "upload_regex"}


def translate_routes(old: OldConfig, wanted: Wanted, result: Imported) -> None:
    """Never raises: what can't be translated is a note."""
    name = next((one for one in SERVICES if one in old.sections), "")
    service = old.sections.get(name, {})
    topic = _topic(service, wanted, result)
    if wanted.upload or "file_directory" in service:
        result.upload = _upload(service, topic, wanted, result)
    elif service:
        text = f"[{name}] has no file_directory"
        result.notes.append(Note(old.lines[name], text, "give --upload-dir DIR", True))
    if wanted.download is not None:
        result.download = {"directory": wanted.download, "topic": topic}
        result.download |= _reading(old, wanted, result)
    for route in (result.upload, result.download):
        if route and wanted.format != "kfd":
            route["format"] = wanted.format
    if (result.upload or result.download) and not (wanted.topic or "topic_name" in service):
        result.notes.append(Note(1, "no topic", "give --topic TOPIC", True))
    for entry in service.values():
        _setting(entry, result)


def _topic(service: Mapping[str, Entry], wanted: Wanted, result: Imported) -> str:
    entry = service.get("topic_name")
    if wanted.topic is not None or entry is None:
        return wanted.topic or UNKNOWN
    value = result.value("topic", entry)
    return UNKNOWN if value is None else value


def _upload(
    service: Mapping[str, Entry], topic: str, wanted: Wanted, result: Imported
) -> dict[str, object]:
    directory = wanted.upload
    if directory is None:
        directory = result.value("directory", service["file_directory"])
    route: dict[str, object] = {
        "directory": f"/{UNKNOWN}" if directory is None else directory,
        "topic": topic,
    }
    if (regex := service.get("upload_regex")) is not None:
        route |= _include(regex, result)
    only_new = service.get("new_files_only")
    if only_new is None or (result.value("existing", only_new) or "").lower() not in _NO:
        route["existing"] = "skip"
    return route


def _include(entry: Entry, result: Imported) -> dict[str, object]:
    """The patterns that say the same, where there are such. It was matched from the beginning."""
    regex = result.value("include", entry)
    if regex is None:
        return {}
    found = _CONTAINS.fullmatch(regex)
    if found is None:
        text = "upload_regex: kfd has patterns as in .gitignore, and none that surely says the same"
        fix = 'write include: ["*.trc"], or whatever it was to match, into the route'
        result.blocked(entry, text, fix)
        return {}
    literal = found[1].replace("\\", "")
    pattern = f"*{literal}" if found[2] else f"*{literal}*"
    text = f"upload_regex: became {pattern}"
    fix = "files in directories of such a name are sent, too; hidden ones aren't, nor *.tmp, *.part"
    result.told(entry, text, fix)
    return {"include": [pattern]}


def _reading(old: OldConfig, wanted: Wanted, result: Imported) -> dict[str, object]:
    """Where a download begins."""
    consumer = old.sections.get("consumer", {})
    found: dict[str, object] = {}
    if group := _group(old, wanted, result):
        found["group"] = group
    start = consumer.get("auto.offset.reset")
    if start is not None and (result.value("start", start) or "") in {"latest", "largest", "end"}:
        found["start"] = "latest"
    return found


def _group(old: OldConfig, wanted: Wanted, result: Imported) -> str | None:
    """openmsistream puts what its command line says, or a new one, in place of the file's."""
    entry = old.sections.get("consumer", {}).get("group.id")
    if wanted.group is not None:
        return None if wanted.group in _NEW_GROUPS else wanted.group
    if entry is None:
        return None
    group = result.value("group", entry)
    if group is None:
        return UNKNOWN
    if group.lower() in _NEW_GROUPS:
        return None
    if not {"cluster", *SERVICES} & old.sections.keys():
        text = "group.id: openmsistream goes by --consumer_group_id, not by this"
        result.told(entry, text, "if it was given, give it here: --group G; never run both in one")
        return None
    text = f"group {group}: kfd goes on where it had committed, if the old program ran with that"
    result.told(
        entry, text + " group", "never run both in one: each would get a part of the records"
    )
    return group


def _setting(entry: Entry, result: Imported) -> None:
    """A key of the service that isn't its route's."""
    make = _SETTINGS.get(entry.name)
    if make is not None:
        make(entry, result)
    elif entry.name not in _ROUTE and not entry.common:
        result.told(entry, f"{entry.name}: kfd has nothing for it", "see docs/migration.md")


def _threads(entry: Entry, result: Imported) -> None:
    if (value := result.value("producer_threads", entry)) is not None:
        result.settings["pools"] = {"producer_threads": value}


def _chunk_size(entry: Entry, result: Imported) -> None:
    value = result.value("chunk_size", entry)
    if value is not None and len(value) <= _DIGITS and value.isascii() and value.isdigit():
        size = chunk_size_below(int(value))
        if size != int(value):
            text = f"chunk_size: {value} became {size}"
            result.told(entry, text, "kfd takes powers of two from 1KiB to 64MiB")
        value = str(size)
    if value is not None:
        result.settings["chunk_size"] = value


def _queue(entry: Entry, result: Imported) -> None:
    if (value := result.value("messages", entry)) is not None:
        result.settings["queue"] = {"messages": value}


def _signs_of_life(entry: Entry, result: Imported) -> None:
    result.left_out.append((entry.name, "kfdctl top shows that it moves"))


def _other_file(entry: Entry, result: Imported) -> None:
    text = f"{entry.name} names another file, with the brokers"
    result.blocked(entry, text, "import that one, with --upload-dir and --topic")


_SETTINGS: Final[Mapping[str, Callable[[Entry, Imported], None]]] = {
    "n_threads": _threads,
    "chunk_size": _chunk_size,
    "queue_max_size": _queue,
    "update_seconds": _signs_of_life,
    "cluster_producer_config": _other_file,
}
