"""What kfdctl says where a fix is elsewhere than people look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control import MemoryOperations, busy_status
from tests.unit.ctl.kfdctl import run


@pytest.mark.parametrize(
    ("verb", "instead"),
    [("stop", "kfdctl quit"), ("start", "systemctl start kfd"), ("restart", "systemctl restart")],
)
def test_what_other_programs_do(verb: str, instead: str) -> None:
    code, _, err = run(verb)
    assert code == 2
    assert instead in err
    assert "did you mean" not in err


def test_a_duration_below_zero() -> None:
    assert "'-5' is less than nothing" in run("wait", "--timeout", "-5", "9f2c41d7")[2]


def test_a_route_that_does_not_exist(served: Path, operations: MemoryOperations) -> None:
    operations.known.clear()
    code, out, err = run("list", "--route", "no-such", "--socket", served)
    assert (code, out) == (0, "")
    assert "there is no route no-such" in err
    operations.now = busy_status()
    assert run("list", "--route", "archive", "--socket", served)[2] == "No transfers.\n"


def test_one_that_is_missing_keeps_all_from_being_sent(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    code, _, err = run("send", tmp_path / "a", tmp_path / "none")
    assert code == 1
    assert "none: No such file or directory; nothing was sent" in err
