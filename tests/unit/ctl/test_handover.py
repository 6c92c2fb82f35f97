"""How ``kfdctl send`` hands files over, those of ``-`` too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.control import SendParameters, Until
from kfd.ctl.client import connect
from kfd.ctl.handover import Order, batches, hand_over
from kfd.ctl.picked import Picked
from tests.control import MemoryOperations
from tests.support import eventually
from tests.unit.ctl.kfdctl import DEADLINE, environment


@pytest.fixture
def order() -> Order:
    return Order(Until.QUEUED, None, SendParameters([]), None)


def test_file_that_can_not_be_opened_is_refused_alone(
    served: Path, operations: MemoryOperations, tmp_path: Path, order: Order
) -> None:
    """One of those of a directory that has gone since; each answer is in its file's place."""
    for name in ("a", "c"):
        (tmp_path / name).write_text(f"in {name}")
    picked = [Picked(os.fsencode(tmp_path / name)) for name in ("a", "gone", "c", "gone")]
    with connect(served, 5) as client:
        (batch,) = batches(order, picked)
        answers = hand_over(client, order, batch)
        assert [bool(one.refused) for one in answers] == [False, True, False, True]
        assert [one.path.rpartition("/")[2] for one in answers] == ["a", "gone", "c", "gone"]
        assert operations.contents == [b"in a", b"in c"]
        (none,) = hand_over(client, order, batch[1:2])
        assert (none.tid, none.refused) == (None, "No such file or directory")
    assert len(operations.sent) == 1


def piped(served: Path, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kfd.ctl", "--socket", served, "send", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**more),
        umask=0o027,
    )


def test_standard_input_goes_as_an_open_file(served: Path, operations: MemoryOperations) -> None:
    with piped(served, "-", "--name", "run/42.trc") as process:
        out, err = process.communicate(b"volts", timeout=DEADLINE)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"run/42.trc  5 B  ")
    (file,) = operations.sent[0].files
    assert (file.source, file.name) == (None, b"run/42.trc")
    assert operations.contents == [b"volts"]


def test_more_standard_input_than_the_spool_takes(
    served: Path, operations: MemoryOperations
) -> None:
    operations.now = replace(operations.now, spool_max=1000)
    with piped(served, "-", "--name", "n") as process:
        _, err = process.communicate(bytes(1001), timeout=DEADLINE)
    assert process.returncode == 1
    assert err.startswith(b"kfdctl: -: standard input has more than 1000 B: spool_max of kfd\n")
    assert operations.sent == []


def test_interrupted_while_it_reads_standard_input(
    served: Path, operations: MemoryOperations
) -> None:
    with piped(served, "-", "--name", "n") as process:
        assert process.stdin is not None
        reading = f"/proc/{process.pid}/fdinfo"
        eventually(lambda: any("deleted" in _target(reading, fd) for fd in os.listdir(reading)))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == b"Interrupted: 0 of 1 files were handed over.\n"
    assert process.returncode == 130
    assert operations.sent == []


def _target(directory: str, descriptor: str) -> str:
    """What a descriptor of a process is open on."""
    try:
        return os.readlink(f"{directory.removesuffix('info')}/{descriptor}")
    except FileNotFoundError:
        return ""


def test_directory_that_takes_no_files_is_named(served: Path, tmp_path: Path) -> None:
    with piped(served, "-", "--name", "n", TMPDIR=str(tmp_path / "missing")) as process:
        _, err = process.communicate(b"volts", timeout=DEADLINE)
    assert process.returncode == 1
    assert err.splitlines() == [
        f"kfdctl: -: standard input can't be kept in {tmp_path}/missing:"
        " No such file or directory".encode(),
        b"  fix: free space there, or name another directory in TMPDIR",
    ]
