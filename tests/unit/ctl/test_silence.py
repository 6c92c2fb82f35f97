"""A daemon that stands still: who only looks is not kept waiting for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import CHECKOUT
from tests.unit.ctl.kfdctl import run


@pytest.fixture
def standing_still(socket_path: Path) -> Iterator[Path]:
    """The socket of one that is stopped by a signal: the kernel takes what is sent to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.ctl.draining", socket_path],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        yield socket_path
        process.kill()


@pytest.mark.parametrize("verb", [["status", "--check"], ["wait", "0" * 8]], ids=["call", "stream"])
def test_who_looks_is_told(standing_still: Path, verb: list[str]) -> None:
    """``run`` waits for 30 s; what changes something waits for longer."""
    code, out, err = run(*verb, "--socket", standing_still)
    assert (code, out) == (75, "")
    assert err == (
        f"kfdctl: kfd at {standing_still} does not answer\n"
        "  fix: systemctl status kfd; journalctl -u kfd\n"
    )
