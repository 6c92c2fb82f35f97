"""``kfdctl status``: exactly what people read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from kfd.control import Problem
from kfd.ctl.render import clock, elapsed
from tests.control import CATALOGUE, NOON, MemoryOperations, busy_status
from tests.unit.ctl.kfdctl import Terminal, run, run_json


def test_status(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status()
    code, out, err = run("status", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "kfd 9.8.7 on scope3: DEGRADED, up 3d 4h, brokers 3/3, 42 MB/s out, 0 in\n"
        "ROUTE  QUEUED SENDING IN-KAFKA DELIVERED FAILED LAST\n"
        "scope3      2       1        4     1,204      0 2024-05-17 run42.trc\n"
        "xrd1        0       0        0       310      0 -\n"
        "ROUTE   RECEIVING PUBLISHED RECORDS BAD         LAG LAST\n"
        "archive         1     1,514  88,120 3 (foreign)   0 2024-05-17 xrd1/a7.raw\n"
        "threads 5+5; queue 812/3000 records; quarantine 0; disk 81 GiB free\n"
        "! xrd1: /srv/instruments/xrd1 not mounted since 2024-05-17\n"
        "  fix: mount it\n"
    )


def test_status_on_a_terminal_fits_and_has_colour(
    served: Path, operations: MemoryOperations
) -> None:
    now = busy_status()
    long = replace(now.uploads[0], last="x" * 200)
    operations.now = replace(now, uploads=(long,))
    terminal = Terminal("status", "--socket", served)
    assert terminal.end() == 0
    assert "\x1b[31m\x1b[1mDEGRADED\x1b[0m" in terminal.screen
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.screen)
    assert all(len(line) <= 80 for line in plain.splitlines())
    assert "xx…" in plain
    bare = Terminal("status", "--socket", served, NO_COLOR="1")
    assert bare.end() == 0
    assert "\x1b" not in bare.screen


def test_status_check(served: Path, operations: MemoryOperations) -> None:
    assert run("status", "--check", "--socket", served)[0] == 0
    operations.now = replace(operations.now, problems=(Problem("kafka", "away", "", NOON),))
    assert run("status", "--check", "--socket", served)[0] == 1
    assert run("status", "--socket", served)[0] == 0


def test_status_says_what_degrades_nothing(served: Path, operations: MemoryOperations) -> None:
    note = Problem("archive", "no receipts", "allow them", NOON, degrades=False)
    operations.now = replace(operations.now, problems=(note,))
    code, out, _ = run("status", "--check", "--socket", served)
    assert code == 0
    assert "! archive: no receipts since" in out
    assert "running" in out


def test_status_says_which_receipts_were_not_used(
    served: Path, operations: MemoryOperations
) -> None:
    busy = busy_status()
    uploads = [replace(route, bad={"unknown": 2}) for route in busy.uploads]
    operations.now = replace(busy, uploads=uploads)
    lines = run("status", "--socket", served)[1].splitlines()
    assert lines.count("receipts about lecroy_files not used: 2 (unknown)") == 1


def test_a_route_that_is_gone_does_not_look_alive(
    served: Path, operations: MemoryOperations
) -> None:
    busy = busy_status()
    gone = replace(busy.uploads[0], route="short", directory=None)
    without = replace(gone, route="")
    operations.now = replace(busy, uploads=(*busy.uploads, gone, without), downloads=())
    for verb, column in (("status", 0), ("top", 1)):
        lines = run(verb, "--socket", served)[1].splitlines()
        assert not [line for line in lines if line.startswith("short")]
        found = [line for line in lines if "-> lecroy_files (short)" in line]
        assert len(found) == 1
        assert [line for line in lines if "-> lecroy_files" in line and "(" not in line]
        assert found[0].startswith("-> " if column == 0 else "- ")


def test_one_is_one(served: Path, operations: MemoryOperations) -> None:
    busy = busy_status()
    catalogues = (
        *(replace(CATALOGUE, waiting=1, refused=0), replace(CATALOGUE, waiting=0, refused=0)),
        replace(CATALOGUE, waiting=0, refused=0, written=1),
    )
    upload = replace(busy.uploads[0], queued=1)
    operations.now = replace(busy, uploads=(upload,), catalogues=catalogues)
    lines = run("status", "--socket", served)[1].splitlines()
    assert [line.partition(": ")[2] for line in lines if line.startswith("catalogue")] == [
        "1 row waiting", "20 rows written", "1 row written",
    ]  # fmt: skip
    assert "1 file waiting" in run("top", "--socket", served)[1]


def test_top_without_routes(served: Path) -> None:
    out = run("top", "--socket", served)[1]
    assert out.endswith("\nNo routes.\n\nNothing moves.\n")


def test_status_json(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status()
    status = run_json("status", "--socket", served)["status"]
    assert status["uploads"][0]["queued"] == 2
    assert status["downloads"][0]["bad"] == {"foreign": 3, "malformed": 0}
    assert status["state"] == "degraded"


def test_reasons_are_told_apart(served: Path, operations: MemoryOperations) -> None:
    now = busy_status()
    route = replace(now.downloads[0], bad={"foreign": 1003, "malformed": 2}, lag=None)
    operations.now = replace(now, downloads=(route,))
    assert "1,005 (foreign 1,003, malformed 2)   ?" in run("status", "--socket", served)[1]


def test_elapsed_is_written_as_people_do() -> None:
    assert [elapsed(s) for s in (0.04, 4.52, 36, 60, 302)] == [
        "0 s",
        "4.5 s",
        "36 s",
        "1m",
        "5m 2s",
    ]


def test_clock_is_short_for_what_is_near() -> None:
    assert clock(NOON, NOON + 60) == "12:00"
    assert clock(NOON, NOON + 86400) == "Fri 12:00"
    assert clock(NOON, NOON + 30 * 86400) == "2024-05-17"
    assert clock(NOON + 86400, NOON) == "2024-05-18"
