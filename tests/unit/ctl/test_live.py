"""``kfdctl events``, ``top``, ``pause``, ``resume`` and ``rescan``."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import struct
import termios
from dataclasses import replace
from pathlib import Path

from kfd.control import State
from kfd.ctl.top import sparkline
from tests.control import NOON, TID, MemoryOperations, busy_status, event, transfer
from tests.support import eventually
from tests.unit.ctl.kfdctl import DEADLINE, Terminal, run, run_json, start

# --- events ------------------------------------------------------------------------------------


def test_events(served: Path, operations: MemoryOperations) -> None:
    operations.happens(
        event(TID), event(TID, state=State.IN_KAFKA, at=NOON + 1),
        event(TID, state=State.FAILED, at=NOON + 2, reason="no room at lab2"),
    )  # fmt: skip
    code, out, err = run("events", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "05-17 12:00:00 9f2c41d7 queued      scope3 run42.trc 2 KiB\n"
        "05-17 12:00:01 9f2c41d7 in-kafka    scope3 run42.trc 2 KiB\n"
        "05-17 12:00:02 9f2c41d7 failed      scope3 run42.trc 2 KiB (no room at lab2)\n"
    )
    assert len(run("events", "--limit", "1", "--socket", served)[1].splitlines()) == 1
    assert run("events", "--since", "5m", "--socket", served) == (0, "", "No events.\n")
    assert [one["state"] for one in run_json("events", "--socket", served)["events"]] == [
        "queued", "in_kafka", "failed",
    ]  # fmt: skip


def test_events_follow(served: Path, operations: MemoryOperations) -> None:
    operations.happens(event(TID))
    with start("events", "--follow", "--json", "--socket", served) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["version"], first["event"]["state"]) == (1, "queued")
        operations.happens(event(TID, state=State.SENDING))
        assert json.loads(process.stdout.readline())["event"]["state"] == "sending"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130


def test_events_are_safe_to_look_at(served: Path, operations: MemoryOperations) -> None:
    operations.happens(event(TID, reason="a\x1b[2Jb\nc\u202ed"))
    out = run("events", "--socket", served)[1]
    assert out.endswith("(a\\x1b[2Jb\\x0ac\\xe2\\x80\\xaed)\n")


# --- pause, resume, rescan -----------------------------------------------------------------------


def test_pause_resume_rescan(served: Path, operations: MemoryOperations) -> None:
    assert run("pause", "xrd1", "--socket", served) == (0, "xrd1: paused\n", "")
    assert run("resume", "--socket", served) == (0, "xrd1: goes on\n", "")
    assert run("resume", "--socket", served) == (0, "", "No route was paused.\n")
    assert run("rescan", "--socket", served) == (0, "scope3: is scanned\n", "")
    assert run("rescan", "archive", "--socket", served)[0] == 2
    assert run_json("pause", "--socket", served) == {"routes": ["scope3"], "in_flight": 0}


def test_pause_where_there_are_no_routes(served: Path, operations: MemoryOperations) -> None:
    operations.routes = []
    said = "There are no routes; what is sent without one is paused.\n"
    assert run("pause", "--socket", served) == (0, "", said)


def test_pause_waits_for_what_is_on_its_way(served: Path, operations: MemoryOperations) -> None:
    operations.flying = 2
    code, _, err = run("pause", "--wait", "--timeout", "300ms", "--socket", served)
    assert (code, err) == (
        75,
        "kfdctl: paused; what was begun is still on its way\n  fix: kfdctl status shows it\n",
    )
    terminal = Terminal("pause", "--wait", "--socket", served)
    terminal.read_until("2 files on the way")
    with operations.changed:
        operations.flying = 0
    assert terminal.end() == 0
    assert terminal.screen.endswith("scope3: paused\r\n")


def test_status_shows_what_is_paused(served: Path, operations: MemoryOperations) -> None:
    busy = busy_status()
    paused = replace(busy.uploads[0], paused_since=NOON)
    operations.now = replace(busy, uploads=(paused, *busy.uploads[1:]))
    out = run("status", "--socket", served)[1]
    assert "scope3: paused since 2024-05-17; to go on: kfdctl resume scope3\n" in out


# --- top -----------------------------------------------------------------------------------------


def test_top_is_live_until_q(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status()
    operations.known[TID] = transfer(TID, size=1000, done=510)
    terminal = Terminal("top", "--socket", served)
    terminal.read_until(r"█████░░░░░  51% 1000 B run42\.trc")
    assert terminal.screen.startswith("\x1b[?1049h\x1b[?25l")
    operations.move(TID, 900)
    terminal.read_until(r"█████████░  90%")
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    assert terminal.screen.endswith("\x1b[?25h\x1b[?1049l")


def test_top_ends_with_ctrl_c_and_gives_the_terminal_back(
    served: Path, operations: MemoryOperations
) -> None:
    terminal = Terminal("top", "--socket", served)
    terminal.read_until("Nothing moves")
    terminal.interrupt()
    assert terminal.end() == 130
    assert terminal.screen.rstrip().endswith("\x1b[?25h\x1b[?1049l")


def test_top_follows_the_size_of_the_terminal(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status()
    operations.known[TID] = transfer(TID, path="x" * 300)
    terminal = Terminal("top", "--socket", served)
    terminal.read_until("x{20}…")
    for columns in (40, 100):
        seen = len(terminal.screen)
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        eventually(lambda seen=seen: "x…" in terminal.read_some()[seen:], DEADLINE)  # type: ignore[misc]
        drawn = terminal.screen[seen:].split("\x1b[H")[-1]
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).split("\r\n")
        assert max(map(len, lines)) <= columns
    os.write(terminal.master, b"q")
    assert terminal.end() == 0


def test_top_elsewhere_is_a_snapshot(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status()
    operations.known[TID] = transfer(TID, size=1000, done=510)
    code, out, err = run("top", "--socket", served)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "9f2c41d7 sending █████░░░░░  51% 1000 B run42.trc" in out
    assert "! xrd1: /srv/instruments/xrd1 not mounted" in out
    document = run_json("top", "--socket", served)
    assert [one["tid"] for one in document["transfers"]] == [TID]


def test_sparkline() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([0, 0], 10) == "▁▁"
    assert sparkline([0, 1, 4, 8], 10) == "▁▂▅█"
    assert sparkline(range(100), 3) == "███"
