"""``kfdctl show``, ``cancel`` and ``retry``."""

from __future__ import annotations

import re
from pathlib import Path

from kfd.control import Direction, State
from tests.control import NOON, TID, MemoryOperations, transfer
from tests.unit.ctl.kfdctl import run, run_json


def test_show(served: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(
        TID, state=State.DELIVERED, queued_at=NOON, ended_at=NOON + 3.25, done=1000
    )
    code, out, err = run("show", "9f2c41d7", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "path        run42.trc\n"
        f"id          {TID}\n"
        "state       delivered\n"
        "size        1000 B (1,000 bytes)\n"
        "modified    2024-05-17 12:00:00.000\n"
        "mode        rw-r-----\n"
        f"digest      {'ab' * 32}\n"
        "source      /srv/scope3/run42.trc\n"
        "meta        run=42\n"
        "queued      2024-05-17 12:00:00.000 by anna\n"
        "begun       2024-05-17 12:00:01.000\n"
        "in Kafka    2024-05-17 12:00:02.000\n"
        "delivered   2024-05-17 12:00:03.250\n"
        "route       scope3, topic lecroy_files, origin scope3\n"
        "partition   3, from offset 17\n"
        "chunks of   1 KiB\n"
        "generation  1715940000000000\n"
        "receivers   lab1, lab2\n"
        "refused     1 times\n"
        "instead of  cdcdcdcd\n"
    )
    assert run_json("show", TID, "--socket", served)["details"]["receivers"] == ["lab1", "lab2"]


def test_show_of_what_is_not_known(served: Path) -> None:
    code, out, err = run("show", "00000000", "--socket", served)
    assert (code, out, err) == (12, "", "kfdctl: no transfer 00000000\n  fix: see kfdctl list\n")
    assert run("show", "xyz", "--socket", served)[0] == 2


def test_cancel(served: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.SENDING)
    answer = run("cancel", "9f2c41d7", "--socket", served)
    assert answer == (0, "run42.trc  cancelled  id 9f2c41d7\n", "")
    assert run_json("cancel", TID, "--socket", served)["refused"] == []


def test_cancel_goes_on_past_what_it_cannot(served: Path, operations: MemoryOperations) -> None:
    other = "00" * 15 + "01"
    operations.known[TID] = transfer(TID, state=State.IN_KAFKA)
    operations.known[other] = transfer(other, path="run43.trc")
    code, out, err = run("cancel", TID, "77777777", other, "--socket", served)
    assert (code, out) == (1, "run43.trc  cancelled  id 00000001\n")
    assert err == (
        "kfdctl: run42.trc is in-kafka: it can't be cancelled any more\n"
        "kfdctl: no transfer 77777777\n  fix: see kfdctl list\n"
    )


def test_retry(served: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID, state=State.FAILED)
    gone = "00" * 15 + "02"
    operations.known[gone] = transfer(gone, path="gone.trc", state=State.FAILED)
    code, out, err = run("retry", TID, gone, "--socket", served)
    assert (code, out) == (1, "run42.trc  queued again  id abababab\n")
    assert err == "kfdctl: gone.trc (00000002) isn't sent again: the file is no longer there\n"


def test_retry_of_more_than_one_request_holds(served: Path, operations: MemoryOperations) -> None:
    tids = [f"{number:032x}" for number in range(2001)]
    operations.known |= {tid: transfer(tid, state=State.FAILED) for tid in tids}
    code, out, err = run("retry", *(tid[-8:] for tid in tids), "--socket", served)
    assert (code, err) == (0, "")
    assert out.count("queued again") == 2001


def test_retry_of_all_that_failed_goes_through_every_batch(
    served: Path, operations: MemoryOperations
) -> None:
    for number in range(5):
        tid = f"{number:032x}"
        route = "scope3" if number else "other"
        operations.known[tid] = transfer(tid, path=f"f{number}", state=State.FAILED, route=route)
    code, out, err = run("retry", "--failed", "--socket", served)
    assert (code, err) == (0, "")
    assert re.findall("^f.", out, re.MULTILINE) == ["f0", "f1", "f2", "f3", "f4"]
    assert out.endswith("5 transfers queued again.\n")
    answer = run_json("retry", "--failed", "--route", "scope3", "--socket", served)
    assert [one["path"] for one in answer["transfers"]] == ["f1", "f2", "f3", "f4"]


def test_retry_wants_ids_or_failed(served: Path) -> None:
    for arguments in ([], [TID, "--failed"], [TID, "--route", "scope3"]):
        assert run("retry", *arguments, "--socket", served)[0] == 2


def test_show_of_a_file_that_was_sent_and_received_here(
    served: Path, operations: MemoryOperations
) -> None:
    operations.known[TID] = transfer(TID, state=State.DELIVERED)
    got = transfer(TID, route="archive", direction=Direction.DOWNLOAD, state=State.PUBLISHED)
    operations.received = [got]
    both = run("show", TID, "--socket", served)[1]
    assert both.index("state       delivered") < both.index("\n\npath") < both.index("published")
    only = run("show", TID, "--route", "archive", "--socket", served)[1]
    assert "delivered" not in only
    assert "state       published" in only
    answer = run_json("show", TID, "--socket", served)
    assert [one["transfer"]["route"] for one in answer["others"]] == ["archive"]
    assert run("show", TID, "--state", "failed", "--socket", served)[0] == 2
