"""``kfdctl quit`` waits until the daemon is gone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.ctl.kfdctl import DEADLINE, Terminal, start
from tests.unit.ctl.test_json import check


def let_go(other_process: subprocess.Popen[str]) -> None:
    """Nothing is left for it to do."""
    assert other_process.stdin is not None
    other_process.stdin.write("\n")
    other_process.stdin.flush()


def test_quit_waits_until_the_daemon_is_gone(
    socket_path: Path, other_process: subprocess.Popen[str]
) -> None:
    with start("quit", "--socket", socket_path) as process:
        assert process.stdout is not None
        started = os.read(process.stdout.fileno(), 1000).decode()
        assert started == "No new files taken. Finishing 3 transfers (612 MiB) ... "
        let_go(other_process)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"done\nkfd stopped after [0-9.]+ s\.\n", out)
    assert other_process.wait(DEADLINE) == 0


@pytest.mark.parametrize("options", [[], ["--now"]], ids=["drained", "now"])
def test_what_programs_get(
    options: list[str], socket_path: Path, other_process: subprocess.Popen[str]
) -> None:
    with start("quit", *options, "--json", "--socket", socket_path) as process:
        let_go(other_process)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    check("quit", json.loads(out))


def test_quit_now_leaves_the_rest(socket_path: Path, other_process: subprocess.Popen[str]) -> None:
    with start("quit", "--now", "--socket", socket_path) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "No new files taken. 3 transfers (612 MiB) left to the next start\n"
        let_go(other_process)
        assert process.wait(DEADLINE) == 0
    assert other_process.wait(DEADLINE) == 0


def test_quit_interrupted_goes_on_stopping(
    socket_path: Path, other_process: subprocess.Popen[str]
) -> None:
    terminal = Terminal("quit", "--socket", socket_path)
    terminal.read_until(r"Finishing 3 transfers \(612 MiB\) \.\.\. ")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Interrupted; kfd goes on stopping." in terminal.screen
    let_go(other_process)
    assert other_process.wait(DEADLINE) == 0


def test_one_that_ends_before_it_has_finished_did_not_do_it(
    socket_path: Path, other_process: subprocess.Popen[str]
) -> None:
    with start("quit", "--socket", socket_path) as process:
        assert process.stdout is not None
        started = os.read(process.stdout.fileno(), 1000).decode()
        other_process.kill()
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, started + out) == (
        1,
        "No new files taken. Finishing 3 transfers (612 MiB) ..."
        " 3 transfers (612 MiB) left to the next start\n",
    )
    assert err.startswith("kfdctl: kfd ended before it had finished\n  fix: journalctl -u kfd")
