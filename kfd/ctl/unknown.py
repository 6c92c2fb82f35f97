"""Properties that librdkafka doesn't take: found by asking it."""

from __future__ import annotations

from kfd.config.properties import is_secret
from kfd.oldconfig.imported import Imported, Note
from kfd.propertyfaults import property_fault

_OF_LOGINS = ("sasl.", "ssl.", "security.")  # people look at these, for they need secrets


def without_unknown(imported: Imported) -> Imported:
    """The same, with a note for each property that is left out."""
    for one in list(imported.properties):
        if is_secret(one.name) or one.name.startswith(_OF_LOGINS):
            continue
        fault = property_fault(one.name, one.value)
        if fault is None:
            continue
        imported.properties.remove(one)
        imported.left_out.append((one.name, fault.what))
        line = imported.lines.get(one.name, 1)
        what = f"kafka.{one.name}: {fault.what}"
        imported.notes.append(Note(line, what, "left out; the old program had it"))
    return imported
