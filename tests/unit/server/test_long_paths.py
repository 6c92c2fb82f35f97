"""Paths that nothing can open."""

from __future__ import annotations

from pathlib import Path

from tests.control import MemoryOperations
from tests.rawclient import Raw


def test_a_path_that_nothing_can_open_is_refused_alone(
    raw: Raw, operations: MemoryOperations, trace: Path
) -> None:
    """To look at each of its 30,000 parts would take seconds."""
    with trace.open("rb") as file:
        files = [{"descriptor": 0, "source": "/a" * 30_000}, {"source": str(trace)}]
        answer = raw.call("Send", {"files": files}, (file.fileno(),))
    long, short = answer["parameters"]["files"]
    assert (long["tid"], long["refused"]) == (None, "its path is too long to be opened")
    assert short["tid"] is not None
    assert operations.contents == [b"volts"]
