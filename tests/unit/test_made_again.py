"""A version that was published, and comes again under another tid in a topic made anew."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.parts import Receiving, Sent

FIRST = Sent(b"content", tid=b"1" * 16)


def made_again(parts: Receiving, sent: Sent) -> dict[bytes, str]:
    """Publish FIRST, then receive this from the new topic; how the transfers ended, by tid."""
    parts.receiver.receive(FIRST.records())
    parts.receiver.drop([0])
    parts.receiver.take(0, "another topic of this name", 0)
    parts.receiver.receive(sent.records())
    return dict(parts.ledger.reader().execute("SELECT tid, state FROM incoming").fetchall())


def test_same_version_is_taken_for_published_and_stays_as_it_is(parts: Receiving) -> None:
    parts.receiver.receive(FIRST.records())
    inode = os.stat(parts.root / "run.trc").st_ino
    again = replace(FIRST, tid=b"2" * 16)
    assert made_again(parts, again) == {FIRST.tid: "published", again.tid: "published"}
    assert os.stat(parts.root / "run.trc").st_ino == inode
    assert parts.parts() == []


@pytest.mark.parametrize(
    "change",
    [{"generation": FIRST.generation - 1}, {"content": b"other"}, {"mtime_ns": 5}],
    ids=["older", "other size", "other time"],
)
def test_another_version_is_not(parts: Receiving, change: dict[str, int]) -> None:
    other = replace(FIRST, tid=b"2" * 16, **change)
    assert made_again(parts, other)[other.tid] == "superseded"
    assert parts.visible() == {b"run.trc": FIRST.content}
