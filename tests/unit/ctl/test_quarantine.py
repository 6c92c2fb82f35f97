"""``kfdctl quarantine``: list, show, release and purge."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.control import NOON, TID, MemoryOperations, quarantined
from tests.unit.ctl.kfdctl import Terminal, run, run_json

OTHER = "00" * 15 + "07"


def test_list(served: Path, operations: MemoryOperations) -> None:
    assert run("quarantine", "list", "--socket", served) == (0, "", "Nothing is in quarantine.\n")
    operations.set_aside[TID] = quarantined(TID)
    operations.set_aside[OTHER] = quarantined(OTHER, route="lab", held=False, note="too large")
    code, out, err = run("quarantine", "list", "--socket", served)
    assert (code, err) == (0, "4 KiB of 10 GiB kept.\n")
    assert out.splitlines() == [
        "ID       ROUTE    SIZE AT         KEPT PATH",
        "9f2c41d7 archive 2 KiB 2024-05-17 yes  run42.trc"
        " (its name can't be used here: Not a directory)",
        "00000007 lab     2 KiB 2024-05-17 no   run42.trc"
        " (its name can't be used here: Not a directory)",
    ]
    only = run_json("quarantine", "list", "--route", "lab", "--socket", served)
    assert [entry["tid"] for entry in only["entries"]] == [OTHER]


def test_show(served: Path, operations: MemoryOperations) -> None:
    operations.set_aside[TID] = quarantined(TID)
    code, out, err = run("quarantine", "show", "9f2c41d7", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "path        run42.trc\n"
        f"id          {TID}\n"
        "reason      its name can't be used here: Not a directory\n"
        "since       2024-05-17 12:00:00\n"
        "route       archive, topic lecroy_files, origin scope3\n"
        "size        2 KiB (2,048 bytes)\n"
        "modified    2024-05-17 12:00:00\n"
        f"digest      {'ab' * 32}\n"
        "meta        run=42\n"
        "sender told quarantined: its name can't be used here: Not a directory\n"
        f"content     /data/lab/.kfd/quarantine/{TID}-0\n"
        "release     as lab/run42.trc\n"
    )
    code, out, err = run("quarantine", "show", "00000000", "--socket", served)
    assert (code, out) == (12, "")
    assert err == "kfdctl: 00000000 isn't in quarantine\n  fix: kfdctl quarantine list\n"


def test_release(served: Path, operations: MemoryOperations) -> None:
    operations.set_aside[TID] = quarantined(TID)
    answer = run("quarantine", "release", "9f2c41d7", "--to", "by/hand", "--socket", served)
    assert answer == (0, "run42.trc  published as by/hand\n", "")
    operations.set_aside[TID] = quarantined(TID)
    operations.set_aside[OTHER] = quarantined(OTHER, held=False, path="gone.trc")
    code, out, err = run("quarantine", "release", OTHER, TID, "--socket", served)
    assert (code, out) == (1, "run42.trc  published as run42.trc\n")
    assert err == "kfdctl: the content of gone.trc isn't there\n  fix: send it again\n"
    assert run("quarantine", "release", TID, OTHER, "--to", "x", "--socket", served)[0] == 2


def test_purge(served: Path, operations: MemoryOperations) -> None:
    operations.set_aside[TID] = quarantined(TID)
    answer = run("quarantine", "purge", "9f2c41d7", "--socket", served)
    assert answer == (0, "1 entry removed, 2 KiB freed.\n", "")
    operations.set_aside[TID] = quarantined(TID, at=NOON)
    operations.set_aside[OTHER] = quarantined(OTHER, at=time.time())
    answer = run("quarantine", "purge", "--older-than", "1h", "--socket", served)
    assert answer == (0, "1 entry removed, 2 KiB freed.\n", "")
    assert list(operations.set_aside) == [OTHER]
    assert run("quarantine", "purge", "--socket", served)[0] == 2
    assert run("quarantine", "purge", "--all", OTHER, "--socket", served)[0] == 2


def test_purge_asks_on_a_terminal(served: Path, operations: MemoryOperations) -> None:
    operations.set_aside[TID] = quarantined(TID)
    terminal = Terminal("quarantine", "purge", "--all", "--socket", served)
    terminal.read_until(r"Remove all entries \(2 KiB are kept in all\) for good\? \[y/N\]:")
    os.write(terminal.master, b"n\r")
    assert terminal.end() == 1
    assert "Nothing was removed." in terminal.screen
    assert TID in operations.set_aside
    terminal = Terminal("quarantine", "purge", "--all", "--yes", "--socket", served)
    assert terminal.end() == 0
    assert operations.set_aside == {}
