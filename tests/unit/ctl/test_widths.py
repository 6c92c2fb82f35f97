"""What people see: terminals of 80 and of 40 columns, pipes, without colour, hostile names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfd.control import State
from kfd.control.examination import Check, Outcome
from kfd.ctl.render import columns_of, cut, plain, table, wrapped
from tests.control import NOON, TID, MemoryOperations, busy_status, event, quarantined, transfer
from tests.unit.ctl.kfdctl import Terminal, run

HOSTILE = "a\x1b[31m\nb\u202ec\u200bd\x9b2J"


@pytest.fixture
def busy(operations: MemoryOperations) -> MemoryOperations:
    operations.now = busy_status()
    operations.known[TID] = transfer(
        TID, path="measurements/2024/" + "run42-" * 20, state=State.FAILED, queued_at=NOON,
        reason="no such topic",
    )  # fmt: skip
    operations.set_aside[TID] = quarantined(TID, path="measurements/2024/" + "run42-" * 20)
    operations.happens(event(TID, path="measurements/2024/" + "run42-" * 20))
    text = "the topic lecroy_files has 1 replica; 19 MiB of it are of no other broker"
    operations.checks = [Check("topics", Outcome.WARN, text, "raise it")]
    return operations


VERBS = [
    ["status"], ["list"], ["events"], ["show", TID],
    ["quarantine", "list"], ["quarantine", "show", TID], ["doctor"],
    ["send", "/etc/hostname", "--name", "measurements/2024/run42.trc", "--until", "queued"],
    ["inspect", "file", "/etc/hostname"],
]  # fmt: skip


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_it_fits_the_terminal(
    verb: list[str], columns: int, served: Path, busy: MemoryOperations
) -> None:
    terminal = Terminal(*verb, "--socket", served, columns=columns)
    assert terminal.end() == 0
    long = [line for line in terminal.lines if columns_of(line) > columns]
    # words that can't be broken, and commands to be copied
    assert all(" " not in line.strip() or "fix:" in line for line in long), long


@pytest.mark.parametrize("columns", [80, 40])
def test_an_event_keeps_its_file_and_its_size(
    columns: int, served: Path, operations: MemoryOperations
) -> None:
    paths = ["short.trc", "measurements/2024/" + "run42-" * 20]
    operations.happens(*(event(TID, path=path, size=19 << 20, reason="why") for path in paths))
    terminal = Terminal("events", "--socket", served, columns=columns)
    assert terminal.end() == 0
    text = " ".join(" ".join(terminal.lines).split())
    assert all(f"{path} 19 MiB (why)" in text for path in paths)


@pytest.mark.parametrize(("wire", "digits"), [("kfd", 64), ("openmsistream", 128)])
def test_digests_can_be_compared(wire: str, digits: int) -> None:
    terminal = Terminal("inspect", "file", "/etc/hostname", "--format", wire)
    assert terminal.end() == 0
    found = re.findall(rf"\b[0-9a-f]{{{digits}}}\b", "\n".join(terminal.lines))
    assert len(found) == 2


def test_a_command_to_be_copied_stays_whole(served: Path) -> None:
    terminal = Terminal("send", "/etc/hostname", "--socket", served)
    assert terminal.end() == 0
    assert terminal.lines[-2].endswith("; not yet confirmed by a receiver.")
    assert terminal.lines[-1] == "  See: kfdctl wait --until delivered 9f2c41d7"


def test_what_config_check_says_is_wrapped(tmp_path: Path) -> None:
    upload = tmp_path / "in"
    upload.mkdir()
    path = tmp_path / "kfd.yaml"
    path.write_text(
        "kafka:\n  bootstrap.servers: k:9092\n"
        f"uploads:\n  scope3:\n    directory: {upload}\n    topic: t\n"
    )
    for text in (path.read_text(), path.read_text() + "    nonsense: x\n"):
        path.write_text(text)
        terminal = Terminal("config", "check", path, columns=40)
        terminal.end()
        long = [line for line in terminal.lines if columns_of(line) > 40]
        assert all(" " not in line.strip() or "fix:" in line for line in long), long


def test_nothing_is_left_out_where_there_is_little_room(
    served: Path, busy: MemoryOperations
) -> None:
    terminal = Terminal("status", "--socket", served, columns=40)
    assert terminal.end() == 0
    text = " ".join(" ".join(terminal.lines).split())
    assert "scope3 queued 2, sending 1, in-kafka 4, delivered 1,204, failed 0" in text
    assert "archive receiving 1, published 1,514, records 88,120, bad 3 (foreign), lag 0" in text
    assert "threads 5+5; queue 812/3000 records; quarantine 0; disk 81 GiB free" in text


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_pipe_gets_all_and_no_colours(
    verb: list[str], served: Path, busy: MemoryOperations
) -> None:
    code, out, _ = run(*verb, "--socket", served)
    assert code == 0
    assert "\x1b" not in out
    assert "…" not in out


def test_colours_are_for_terminals_that_want_them(served: Path, busy: MemoryOperations) -> None:
    coloured = Terminal("status", "--socket", served)
    coloured.end()
    assert "\x1b[31m" in coloured.screen
    for more in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        without = Terminal("status", "--socket", served, **more)
        without.end()
        assert "\x1b" not in without.screen


@pytest.mark.parametrize("verb", [*VERBS, ["wait", TID], ["cancel", TID], ["retry", TID]],
                         ids=" ".join)  # fmt: skip
def test_hostile_text_is_escaped(
    verb: list[str], served: Path, operations: MemoryOperations
) -> None:
    """The daemon escapes names; what else it tells may come from others."""
    operations.known[TID] = transfer(TID, state=State.FAILED, path=HOSTILE, reason=HOSTILE, fix="f")
    operations.happens(event(TID, path=HOSTILE, reason=HOSTILE))
    _, out, err = run(*verb, "--socket", served)
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", out + err) is None


def test_text() -> None:
    assert plain("a b") == "a b"
    assert plain(HOSTILE) == r"a\x1b[31m\x0ab\xe2\x80\xaec\xe2\x80\x8bd\xc2\x9b2J"
    assert columns_of("漢字") == 4
    assert columns_of("e\u0301") == 1
    assert cut("漢字漢字", 5) == "漢字…"
    assert wrapped("one two three", 8) == ["one two", "  three"]
    assert wrapped("one two three", None) == ["one two three"]
    assert wrapped("disk 72 GiB free", 9) == ["disk", "  72 GiB", "  free"]
    assert wrapped("at 118 MB/s, 12 B or 3 Brokers", 9) == [
        "at", "  118 MB/s,", "  12 B or", "  3", "  Brokers",
    ]  # fmt: skip


def test_tables() -> None:
    rows = [["scope3", "2", "run42.trc"], ["漢", "1,204", "a"]]
    assert table("ROUTE >QUEUED LAST", rows) == [
        "ROUTE  QUEUED LAST",
        "scope3      2 run42.trc",
        "漢      1,204 a",
    ]
    assert table("ROUTE >QUEUED LAST", rows, 20) == [
        "scope3", "  queued 2", "  last run42.trc", "漢", "  queued 1,204", "  last a",
    ]  # fmt: skip
