"""``kfdctl list`` and ``kfdctl wait``."""

from __future__ import annotations

from pathlib import Path

from kfd.control import State
from tests.control import NOON, MemoryOperations, transfer
from tests.unit.ctl.kfdctl import run, run_json


def known(operations: MemoryOperations) -> None:
    for number, state in enumerate((State.IN_KAFKA, State.FAILED, State.PUBLISHED)):
        tid = f"{number:032x}"
        reason = "no such topic" if state is State.FAILED else ""
        operations.known[tid] = transfer(
            tid, path=f"f{number}", state=state, queued_at=NOON, reason=reason
        )


def test_list(served: Path, operations: MemoryOperations) -> None:
    known(operations)
    code, out, err = run("list", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "ID       STATE     ROUTE    SIZE AT         PATH\n"
        "00000002 published scope3 1000 B 2024-05-17 f2\n"
        "00000001 failed    scope3 1000 B 2024-05-17 f1 (no such topic)\n"
        "00000000 in-kafka  scope3 1000 B 2024-05-17 f0\n"
    )


def test_list_selects(served: Path, operations: MemoryOperations) -> None:
    known(operations)
    select_failed = run_json("list", "--state", "failed", "--socket", served)["transfers"]
    assert [one["path"] for one in select_failed] == ["f1"]
    select_kafka = run_json("list", "--state", "in-kafka", "--socket", served)["transfers"]
    assert [one["path"] for one in select_kafka] == ["f0"]
    assert len(run_json("list", "--limit", "2", "--socket", served)["transfers"]) == 2
    assert run("list", "--route", "none", "--socket", served) == (
        *(0, ""),
        "No transfers, and there is no route none.  See: kfdctl status\n",
    )


def test_wait(served: Path, operations: MemoryOperations) -> None:
    known(operations)
    code, out, _ = run("wait", "00000000", f"{2:032x}", "--socket", served)
    assert (code, out) == (0, "f0  in-kafka  id 00000000\nf2  published  id 00000002\n")
    code, out, err = run("wait", "00000001", "--socket", served)
    assert (code, err) == (10, "f1 failed: no such topic\n")
    until = ("--until", "delivered", "--timeout", "300ms")
    code, out, err = run("wait", "00000000", *until, "--socket", served)
    assert (code, out) == (75, "")
    operations.update(f"{0:032x}", state=State.DELIVERED)
    code, out, err = run("wait", "00000000", "--until", "delivered", "--socket", served)
    assert (code, out) == (0, "f0  delivered  id 00000000\n")
    listed = run_json("list", "--state", "delivered", "--socket", served)["transfers"]
    assert [one["path"] for one in listed] == ["f0"]
    code, out, err = run("wait", "77777777", "--socket", served)
    assert (code, err) == (12, "kfdctl: no transfer 77777777\n  fix: see kfdctl list\n")
