"""Calls that are answered more than once: Wait and Quit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kfd.control import Held, State
from kfd.daemon.operations import DrainProgress
from kfd.daemon.server import channel
from tests.control import TID, MemoryOperations, transfer
from tests.rawclient import Raw
from tests.support import eventually
from tests.unit.server.held import connection_threads


def test_wait_streams_each_change_until_the_state(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.QUEUED)
    raw.write("Wait", {"tids": [TID[-8:]], "until": "in_kafka"}, more=True)
    seen = []
    for state in (State.SENDING, State.IN_KAFKA):
        seen.append(raw.read())
        operations.update(TID, state=state)
    last = raw.read()
    assert [one["parameters"]["transfers"][0]["state"] for one in seen] == ["queued", "sending"]
    assert all(one["continues"] for one in seen)
    assert "continues" not in last
    assert last["parameters"]["transfers"][0]["state"] == "in_kafka"


def test_wait_tells_of_bytes_that_move(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, done=0)
    raw.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
    raw.read()
    operations.move(TID, 500)
    assert raw.read()["parameters"]["transfers"][0]["done"] == 500


def test_others_changes_are_no_replies(raw: Raw, operations: MemoryOperations) -> None:
    other = TID[:-1] + "8"
    operations.known |= {TID: transfer(TID), other: transfer(other)}
    raw.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
    raw.read()
    for done in range(20):
        operations.update(other, done=done)
    operations.update(TID, state=State.FAILED, reason="gone")
    assert raw.read()["parameters"]["transfers"][0]["state"] == "failed"


def test_wait_without_more_answers_now(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID)
    answer = raw.call("Wait", {"tids": [TID], "until": "in_kafka"})
    assert answer["parameters"]["transfers"][0]["state"] == "sending"


def test_wait_for_a_receiver_ends_with_its_receipt(raw: Raw, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.IN_KAFKA)
    raw.write("Wait", {"tids": [TID], "until": "delivered"}, more=True)
    assert raw.read()["parameters"]["transfers"][0]["state"] == "in_kafka"
    operations.update(TID, state=State.DELIVERED)
    last = raw.read()
    assert last["parameters"]["transfers"][0]["state"] == "delivered"
    assert not last.get("continues")


def test_a_client_that_goes_away_in_a_stream_is_noticed(
    served: Path, operations: MemoryOperations
) -> None:
    operations.known[TID] = transfer(TID)
    with Raw(served) as client:
        client.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
        client.read()
        assert connection_threads() == 1
    eventually(lambda: connection_threads() == 0)


def test_a_slow_reader_of_a_stream_is_told_and_dropped(
    served: Path, operations: MemoryOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SEND_TIMEOUT", 0.2)
    operations.known[TID] = transfer(TID, path="x" * 20_000)
    with Raw(served) as client:
        client.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
        client.read()

        def nudge() -> bool:
            sending = operations.known[TID].state is State.SENDING
            operations.update(TID, state=State.QUEUED if sending else State.SENDING)
            return connection_threads() == 0

        eventually(nudge)
        replies = list(client.rest())
        assert "not read" in replies[-1]["parameters"]["text"]
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]


def test_quit_drains_with_progress_and_stops(raw: Raw, operations: MemoryOperations) -> None:
    held = Held("xrd1", "t", 1, "topic t does not exist", "make it")
    operations.left = DrainProgress(2, 2000, [held])
    raw.write("Quit", more=True)
    shown = {"route": "xrd1", "topic": "t", "transfers": 1, "reason": held.reason, "fix": held.fix}
    assert raw.read() == {
        "parameters": {"transfers": 2, "bytes": 2000, "stopping": False, "held": [shown]},
        "continues": True,
    }
    assert operations.draining
    assert not operations.stopped.is_set()
    operations.set_left(0, 0)
    last = {"transfers": 0, "bytes": 0, "stopping": True, "held": []}
    assert raw.read() == {"parameters": last}
    assert operations.stopped.wait(10)


def test_quit_goes_on_without_its_client(served: Path, operations: MemoryOperations) -> None:
    operations.left = DrainProgress(2, 2000)
    with Raw(served) as client:
        client.write("Quit", more=True)
        client.read()
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]
    assert not operations.stopped.is_set()
    operations.set_left(0, 0)
    assert operations.stopped.wait(10)


@pytest.mark.parametrize("parameters", [{"now": True}, {"timeout": 0.1}])
def test_quit_leaves_the_rest_when_told(
    raw: Raw, operations: MemoryOperations, parameters: dict[str, Any]
) -> None:
    operations.left = DrainProgress(2, 2000)
    answer = raw.call("Quit", parameters)
    left = {"transfers": 2, "bytes": 2000, "stopping": True, "held": []}
    assert answer == {"parameters": left}
    assert operations.stopped.wait(10)
    assert operations.draining == ("timeout" in parameters)
