"""How ``kfdctl send`` follows what it sent: progress, ends, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from kfd.control import State
from kfd.ctl.progress import Progress
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


def test_nobody_waits_for_what_has_no_receipts(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.receipts = False
    code, out, err = run("send", trace, "--socket", served)
    assert (code, err) == (0, "")
    assert out.endswith("; openmsistream's format has no receipts.\n")
    tail = TID[-8:]
    for command in (["send", "--again", trace], ["wait", tail]):
        code, out, err = run(*command, "--until", "delivered", "--socket", served)
        assert code == 1
        assert "run42.trc is never called delivered: openmsistream's format has no receipts" in err
        assert "  fix: wait until it is in Kafka: kfdctl wait " in err
    assert run("wait", tail, "--socket", served)[0] == 0
    operations.update(TID, state=State.FAILED, reason="too long")
    assert run("wait", tail, "--until", "delivered", "--socket", served)[0] == 10


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


def test_who_waits_is_told_why_nothing_moves(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    terminal = Terminal("send", trace, "--socket", served)
    terminal.read_until(r"  0%  0   \(Ctrl-C detaches\)")
    operations.update(TID, reason="no broker \x1banswers", fix="start the brokers")
    terminal.read_until(r"  0%  no broker \\x1banswers   \(Ctrl-C detaches\)")
    operations.update(TID, state=State.IN_KAFKA, done=2048, reason="", fix="")
    assert terminal.end() == 0


def test_a_line_that_does_not_fit_is_cut(served: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, reason="word " * 40)
    terminal = Terminal("wait", TID, "--socket", served, columns=40)
    terminal.read_until(r"  0%  word [word ]*…")
    terminal.interrupt()
    assert terminal.end() == 130
    assert max(len(line) for line in terminal.lines) < 40


def test_wait_shows_progress_as_send_does(served: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.SENDING)
    terminal = Terminal("wait", TID, "--until", "delivered", "--socket", served)
    terminal.read_until(r"  0%  0   \(Ctrl-C detaches\)")
    operations.move(TID, 500)
    terminal.read_until(r"\r\x1b\[K 50%  ")
    operations.update(TID, state=State.IN_KAFKA, done=1000)
    terminal.read_until("In Kafka; waiting for a receiver")
    operations.update(TID, reason="no receipts: no such topic")
    terminal.read_until("In Kafka; no receipts: no such topic")
    operations.update(TID, state=State.DELIVERED)
    assert terminal.end() == 0


def test_a_timeout_says_what_is_the_matter(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.known[TID] = transfer(TID, reason="no broker answers", fix="start the brokers")
    until = ("--until", "delivered", "--timeout", "1s")
    code, _, err = run("wait", TID, *until, "--socket", served)
    assert code == 75
    assert err == (
        "kfdctl: timed out; the transfer goes on once it can: no broker answers\n"
        "  fix: start the brokers; kfdctl wait --until delivered 9f2c41d7\n"
    )


def test_who_detaches_is_told_how_to_wait_for_the_same(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    terminal = Terminal("send", trace, "--until", "delivered", "--socket", served)
    terminal.read_until("waiting for a receiver")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "See: kfdctl wait --until delivered 9f2c41d7" in terminal.screen
