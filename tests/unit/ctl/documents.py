"""What ``kfdctl VERB --json`` prints, as JSON Schema: derived from the types of the control socket.

``python -m tests.unit.ctl.documents >docs/kfdctl.schema.json`` writes the file that programs may
use. A field may be added to it; none may go, or become another, without another ``version``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from kfd.control import Sent, Status, Transfer
from kfd.control.catalogue import Added, Catalogue, RefusedRow
from kfd.control.events import Event
from kfd.control.examination import AclsReply, Check
from kfd.control.quarantine import Quarantined, ReleaseReply, ShowQuarantinedReply
from kfd.control.reloading import ReloadReply
from kfd.control.transfers import Details, Refusal, Shown
from kfd.ctl.config import Waiting
from kfd.ctl.extract import Extracted
from kfd.ctl.render import JSON_VERSION
from kfd.inspection.chunks import FileChunk, WholeFile
from kfd.inspection.description import RecordShown
from kfd.inspection.totals import Totals
from kfd.oldconfig.imported import Note


@dataclasses.dataclass
class Failure:
    """An error, with what to do about it."""

    text: str
    fix: str


DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "send": {"files": Sequence[Sent], "transfers": Sequence[Transfer]},
    "status": {"status": Status},
    "list": {"transfers": Sequence[Transfer], "complete": bool},
    "top": {"status": Status, "transfers": Sequence[Transfer]},
    "doctor": {"running": bool, "checks": Sequence[Check]},
    "doctor --acls": {"acls": AclsReply},
    "quit": {"stopped": bool, "seconds": float, "transfers_left": int},
    "wait": {"transfers": Sequence[Transfer]},
    "show": {"transfer": Transfer, "details": Details, "others": Sequence[Shown]},
    "events": {"events": Sequence[Event]},
    "events --follow": {"event": Event},
    "cancel": {"transfers": Sequence[Transfer], "refused": Sequence[Refusal]},
    "retry": {"transfers": Sequence[Transfer], "refused": Sequence[Refusal]},
    "pause": {"routes": Sequence[str], "in_flight": int},
    "resume": {"routes": Sequence[str]},
    "rescan": {"routes": Sequence[str]},
    "quarantine list": {"entries": Sequence[Quarantined], "used": int, "limit": int},
    "quarantine show": {"quarantined": ShowQuarantinedReply},
    "quarantine release": {"released": Sequence[ReleaseReply], "refused": Sequence[Failure]},
    "quarantine purge": {"entries": int, "size": int},
    "catalogue add": {"files": Sequence[Added], "refused": Sequence[RefusedRow]},
    "catalogue status": {"catalogues": Sequence[Catalogue], "refused": Sequence[RefusedRow]},
    "catalogue retry": {"catalogues": Sequence[str], "rows": int},
    "reload": {"reloaded": ReloadReply},
    "config check": {"valid": bool, "uploads": Sequence[Waiting]},
    "config import": {"yaml": str, "notes": Sequence[Note]},
    "inspect file": {"chunk": FileChunk},
    "inspect file, last": {"file": WholeFile},
    "inspect topic": {"record": RecordShown},
    "inspect topic --count": {"totals": Totals},
    "inspect topic --extract": {"extracted": Extracted},
    "backup": {"file": str, "size": int},
    "metrics": {"text": str},
    "completion": {"shell": str, "script": str},
    "version": {"kfdctl": str, "kfd": str | None},
    "an error": {"errors": Sequence[Failure], "exit_code": int},
}
"""Verb → the fields beside ``version``."""

_BASIC = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def schema() -> dict[str, Any]:
    """One schema for all: ``$defs`` has the types, and each verb's document by its name."""
    types: dict[str, Any] = {}
    documents = {
        verb: _object({"version": int, **fields}, types) for verb, fields in DOCUMENTS.items()
    }
    for one in documents.values():
        one["properties"]["version"] = {"const": JSON_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What kfdctl VERB --json prints",
        "$defs": dict(sorted({**types, **documents}.items())),
    }


def _object(fields: Mapping[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _type(hint, types) for name, hint in fields.items()},
        "required": list(fields),
    }


def _type(hint: Any, types: dict[str, Any]) -> dict[str, Any]:
    origin = get_origin(hint)
    if origin is UnionType:
        return {"anyOf": [_type(one, types) for one in get_args(hint)]}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(get_args(hint)[1], types)}
    if origin is not None and issubclass(origin, Sequence):
        return {"type": "array", "items": _type(get_args(hint)[0], types)}
    if dataclasses.is_dataclass(hint):
        return _reference(hint, types)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"enum": list(hint)}
    return {"type": _BASIC[hint]}


def _reference(cls: Any, types: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in types:
        types[cls.__name__] = {}  # before its fields, for one that would hold itself
        hints = get_type_hints(cls)
        types[cls.__name__] = _object(
            {field.name: hints[field.name] for field in dataclasses.fields(cls)}, types
        )
    return {"$ref": f"#/$defs/{cls.__name__}"}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
