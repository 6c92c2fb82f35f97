"""Transfers by name, time, state and metadata, however old they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kfd.control import ListParameters, State
from kfd.daemon.ledger import Ledger, queries
from tests.parts import Sent, version
from tests.unit.ledger.incoming_files import publish, received, with_meta
from tests.unit.ledger.outgoing_files import accept_one, end

NAMES = [b"scope3/run1.trc", b"scope3/run2.csv", b"run1.trc", b"\xff.trc", b"[1].txt",
         b"a/line\nfeed.txt", b"back\\slash"]  # fmt: skip


def found(ledger: Ledger, **wanted: Any) -> set[str]:
    parameters = ListParameters(limit=50, **wanted)
    return {one.path for one in queries.newest(ledger.reader(), "here", parameters)}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.csv", {"scope3/run2.csv"}),
        ("run1.trc", {"scope3/run1.trc", "run1.trc"}),
        ("run[12].*", {"scope3/run1.trc", "scope3/run2.csv", "run1.trc"}),
        ("run[!1].*", {"scope3/run2.csv"}),
        ("scope3/*", {"scope3/run1.trc", "scope3/run2.csv"}),
        ("RUN1.trc", set()),
        ("[[]1].txt", {"[1].txt"}),
        ("?.trc", {"\\xff.trc"}),
        ("\\xff.trc", {"\\xff.trc"}),
        ("\\xf[ef].*", {"\\xff.trc"}),
        ("line\\x0afeed.txt", {"a/line\\x0afeed.txt"}),
        ("a/line\\x0afeed.txt", {"a/line\\x0afeed.txt"}),
        ("back\\slash", {"back\\\\slash"}),
        ("back\\\\slash", {"back\\\\slash"}),
        ("' OR 1 --", set()),
    ],
)
def test_by_name(ledger: Ledger, pattern: str, paths: set[str]) -> None:
    publish(ledger, *(received(Sent(name, name), name=name) for name in NAMES))
    assert found(ledger, name=pattern) == paths


def test_by_metadata(ledger: Ledger) -> None:
    metas: dict[bytes, dict[str, str]] = {
        b"a": {"sample": "42", "it's \"x\"": "y"}, b"b": {"sample": "421"}, b"c": {},
    }  # fmt: skip
    publish(ledger, *(with_meta(received(Sent(name, name)), meta) for name, meta in metas.items()))
    assert found(ledger, meta={"sample": "42"}) == {"a"}
    assert found(ledger, meta={"sample": "42", 'it\'s "x"': "y"}) == {"a"}
    assert found(ledger, meta={"sample": "42", "other": ""}) == set()


def test_by_time(ledger: Ledger) -> None:
    for name in (b"old", b"middle", b"new"):
        publish(ledger, received(Sent(name, name)))
    end(ledger, accept_one(ledger, version(b"sent")), "in_kafka")
    accept_one(ledger, version(b"waits"))
    now = time.time()
    for name, ago in (("old", 9000), ("middle", 5000), ("new", 10)):
        ledger.write(
            lambda db, name=name, ago=ago: db.execute(  # type: ignore[misc]
                "UPDATE incoming SET ended_at = ? WHERE path = ?", (now - ago, name.encode())
            )
        )
    assert found(ledger, until=now - 8000) == {"old"}
    assert found(ledger, since=now - 6000, until=now - 4000) == {"middle"}
    assert found(ledger, since=now - 100) == {"new", "sent", "waits"}
    assert found(ledger, since=now - 6000, state=State.PUBLISHED) == {"middle", "new"}
