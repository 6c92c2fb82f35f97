"""What is done with delivered files: deleted or moved, also when killed meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.conftest import MakeHost, pair
from tests.integration.oracle import digest
from tests.support import eventually


def test_delivered_files_are_deleted(make_host: MakeHost, tmp_path: Path) -> None:
    sender, receiver = pair(make_host, then="delete")
    asked = tmp_path / "asked for.trc"
    asked.write_bytes(b"asked for")
    sender.put("d/run.trc", b"content", old=True)
    sender.start()
    sender.sent(1)
    assert set(sender.sources()) == {b"d/run.trc"}, "not before it is delivered"
    assert sender.ctl("send", asked).returncode == 0
    receiver.start()
    eventually(lambda: sender.sources() == {}, every=0.1)
    sender.delivers("asked for.trc")
    assert asked.read_bytes() == b"asked for"
    assert receiver.published() == {
        b"d/run.trc": digest(b"content"),
        b"asked for.trc": digest(b"asked for"),
    }
    sender.put("d/run.trc", b"the next")
    eventually(lambda: receiver.published()[b"d/run.trc"] == digest(b"the next"))
    eventually(lambda: sender.sources() == {}, every=0.1)


@pytest.mark.parametrize("step", ["then.aside", "then.done", "then.durable"])
def test_killed_while_moving_files(make_host: MakeHost, tmp_path: Path, step: str) -> None:
    done = tmp_path / "done"
    sender, receiver = pair(make_host, then={"move": str(done)})
    receiver.start()
    for number in range(10):
        sender.put(f"d/{number}", b"%d" % number, old=True)
    sender.environment = {"KFD_CRASH_AT": step}
    sender.start()
    assert sender.wait() == -9
    sender.environment = {}
    sender.start()
    eventually(lambda: sender.sources() == {}, every=0.1)
    assert {path.name: path.read_bytes() for path in (done / "d").iterdir()} == {
        f"{number}": b"%d" % number for number in range(10)
    }
    assert set(sender.states("upload").values()) == {1}, "what is moved is not sent again"
    assert sorted(os.listdir(sender.up / ".kfd")) == []


def test_a_file_that_changes_in_the_last_moment_is_sent_and_then_deleted(
    make_host: MakeHost,
) -> None:
    """Killed with the file aside; then it is written on, by one who has it open."""
    sender, receiver = pair(make_host, then="delete")
    receiver.start()
    sender.put("run.trc", b"content", old=True)
    with (sender.up / "run.trc").open("ab") as open_still:
        sender.environment = {"KFD_CRASH_AT": "then.aside"}
        sender.start()
        assert sender.wait() == -9
        open_still.write(b", and more")
    sender.environment = {}
    sender.start()
    eventually(lambda: receiver.published() == {b"run.trc": digest(b"content, and more")}, 60)
    eventually(lambda: sender.sources() == {}, every=0.1)
