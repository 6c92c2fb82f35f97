"""Properties that librdkafka doesn't take: found by asking it."""

from __future__ import annotations

from kfd.config.properties import is_secret
from kfd.kafka import ClusterView, RefusedPropertyError
from kfd.oldconfig.reading import OldConfig
from kfd.oldconfig.translation import Imported, Note


def without_unknown(imported: Imported, old: OldConfig) -> Imported:
    """The same, with a note for each property that is left out."""
    while (refused := _refused(imported)) is not None:
        kept = [one for one in imported.properties if one.name != refused.name]
        if len(kept) == len(imported.properties):
            break  # it names none of them
        imported.properties = kept
        imported.left_out.append((refused.name, refused.what.partition(": ")[2]))
        line = _line(old, refused.name)
        imported.notes.append(Note(line, refused.what, "left out; the old program had it"))
    imported.notes.sort(key=lambda note: note.line)
    return imported


def _refused(imported: Imported) -> RefusedPropertyError | None:
    """What librdkafka says of them; logins are left out, for they need their secrets."""
    some = {
        one.name: one.value
        for one in imported.properties
        if not is_secret(one.name) and not one.name.startswith(("sasl.", "ssl.", "security."))
    }
    try:
        ClusterView(some)
    except RefusedPropertyError as error:
        return error
    return None


def _line(old: OldConfig, name: str) -> int:
    found = [section[name].line for section in old.sections.values() if name in section]
    return found[0] if found else 1
