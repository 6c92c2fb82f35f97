"""``--json``: what programs get is what docs/kfdctl.schema.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kfd.control import State
from tests.control import TID, MemoryOperations, busy_status, event, quarantined, transfer
from tests.support import CHECKOUT
from tests.unit.ctl.documents import DOCUMENTS, schema
from tests.unit.ctl.kfdctl import DEADLINE, run, start

SCHEMA = json.loads((CHECKOUT / "docs/kfdctl.schema.json").read_text())

COMMANDS = {
    "send": ["send", "TRACE"],
    "doctor --acls": ["doctor", "--acls"],
    "wait": ["wait", TID, "--until", "queued"],
    "show": ["show", TID],
    "cancel": ["cancel", TID],
    "backup": ["backup", "BACKUP"],
    "retry": ["retry", TID],
    "an error": ["show", "00000000"],
    "completion": ["completion", "bash"],
    "quarantine show": ["quarantine", "show", TID],
    "quarantine release": ["quarantine", "release", TID],
    "quarantine purge": ["quarantine", "purge", TID],
    "catalogue add": ["catalogue", "add", "TRACE"],
    "config check": ["config", "check", "--config", "CONFIG"],
    "config import": ["config", "import", "OLD"],
}


def check(verb: str, document: Any) -> None:
    """The document is what the file says, and has nothing that it doesn't say."""
    Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{verb}"}).validate(document)
    assert set(document) == {"version", *DOCUMENTS[verb]}


def test_the_file_is_what_the_types_say() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(schema())) == SCHEMA, "see tests/unit/ctl/documents.py"


ONE_DOCUMENT = sorted(
    verb
    for verb in set(DOCUMENTS) - {"events --follow", "quit"}
    if not verb.startswith("inspect")  # see tests/integration/test_inspecting.py
)


@pytest.mark.parametrize("verb", ONE_DOCUMENT)
def test_what_is_printed_fits(
    verb: str, served: Path, operations: MemoryOperations, trace: Path, tmp_path: Path
) -> None:
    config = tmp_path / "kfd.yaml"
    config.write_text("kafka: {bootstrap.servers: localhost:9}\n")
    operations.now = busy_status()
    operations.known[TID] = transfer(TID, state=State.SENDING)
    operations.happens(event(TID))
    operations.set_aside[TID] = quarantined(TID)
    command = COMMANDS.get(verb, verb.split())
    old = tmp_path / "old.config"
    old.write_text("[broker]\nbootstrap.servers = localhost:9\n[log]\n")
    places = {"TRACE": str(trace), "CONFIG": str(config), "BACKUP": str(tmp_path / "b"),
              "OLD": str(old)}  # fmt: skip
    _, out, _ = run("--json", "--socket", served, *[places.get(one, one) for one in command])
    check(verb, json.loads(out))


def test_what_is_followed_fits(served: Path, operations: MemoryOperations) -> None:
    operations.happens(event(TID))
    with start("events", "--follow", "--json", "--socket", served) as process:
        assert process.stdout is not None
        check("events --follow", json.loads(process.stdout.readline()))
        process.terminate()
        process.wait(DEADLINE)
