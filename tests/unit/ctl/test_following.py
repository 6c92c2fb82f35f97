"""How ``kfdctl send`` follows what it sent: progress, ends, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from kfd.control import State
from kfd.ctl.send import Progress
from tests.control import TID, MemoryOperations, serving, transfer
from tests.support import eventually
from tests.unit.ctl.kfdctl import DEADLINE, Terminal, run, start


def test_send_waits_for_a_receiver(served: Path, operations: MemoryOperations, trace: Path) -> None:
    terminal = Terminal("send", trace, "--until", "delivered", "--socket", served)
    terminal.read_until(r"In Kafka; waiting for a receiver   \(Ctrl-C detaches\)")
    operations.update(TID, state=State.DELIVERED)
    assert terminal.end() == 0
    assert re.search(r"\r\x1b\[KDelivered after [0-9.]+ s\.", terminal.screen)


def test_send_says_which_receivers_did_not_take_it(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    terminal = Terminal("send", trace, "--until", "delivered", "--socket", served)
    terminal.read_until("waiting for a receiver")
    operations.update(TID, state=State.FAILED, reason="quarantined at lab2: digest-mismatch")
    assert terminal.end() == 10
    assert "run42.trc failed: quarantined at lab2: digest-mismatch" in terminal.screen


def test_send_tells_of_a_failure(served: Path, operations: MemoryOperations, trace: Path) -> None:
    operations.ends_at_once = False
    with start("send", trace, "--socket", served) as process:
        eventually(lambda: TID in operations.known)
        operations.update(
            TID,
            state=State.FAILED,
            reason="lecroy_files takes 262144 bytes a record, chunk_size 524288 does not fit",
            fix="chunk_size: 128KiB",
        )
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 10
    assert err == (
        "run42.trc failed: lecroy_files takes 262144 bytes a record, chunk_size 524288"
        " does not fit\n  fix: chunk_size: 128KiB\n"
    )


def test_send_follows_the_transfer_that_takes_over(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    successor = "11" * 16
    with start("send", trace, "--socket", served, "--json") as process:
        eventually(lambda: TID in operations.known)
        operations.known[successor] = transfer(successor)
        operations.update(TID, state=State.CANCELLED, reason="changed", successor=successor)
        operations.update(successor, state=State.IN_KAFKA)
        out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert [one["tid"] for one in json.loads(out)["transfers"]] == [successor]


def test_send_times_out_and_the_work_goes_on(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    code, _, err = run("send", trace, "--timeout", "300ms", "--socket", served)
    assert code == 75
    assert err == "kfdctl: timed out; the transfer goes on\n  fix: kfdctl wait 9f2c41d7\n"


def test_send_when_kfd_stops_meanwhile(
    socket_path: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    with serving(socket_path, operations):
        process = start("send", trace, "--socket", socket_path)
        eventually(lambda: TID in operations.known)
        assert process.stdout is not None
        process.stdout.readline()
    with process:
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 3
    assert "kfd stopped meanwhile; the transfer goes on when it is started again" in err


def test_send_on_a_terminal_shows_progress_and_detaches(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    terminal = Terminal("send", trace, "--socket", served)
    terminal.read_until(r"  0%  0   \(Ctrl-C detaches\)")
    operations.move(TID, 1024)
    screen = terminal.read_until(r"\r\x1b\[K 50%  [0-9.]+ k?B/s  [0-9.]+m?s left   \(Ctrl-C det")
    assert "run42.trc  2 KiB  scope3 -> lecroy_files  id 9f2c41d7\r\n" in screen
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Detached; the transfer goes on.  See: kfdctl wait 9f2c41d7" in terminal.screen
    assert operations.known[TID].state is State.SENDING


def test_progress_is_taken_away_at_the_end(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    terminal = Terminal("send", trace, "--socket", served)
    terminal.read_until("Ctrl-C detaches")
    operations.update(TID, state=State.IN_KAFKA, done=2048)
    assert terminal.end() == 0
    assert re.search(r"\r\x1b\[KIn Kafka after [0-9.]+ s; not yet", terminal.screen)


def test_an_interrupt_without_a_terminal_detaches_too(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    with start("send", trace, "--socket", served) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "Detached; the transfer goes on.  See: kfdctl wait 9f2c41d7\n" in err


def test_progress_of_nothing_is_no_division_by_it() -> None:
    assert Progress(0, 1).text([transfer(TID, size=0)]) == "  0%  0   (Ctrl-C detaches)"
