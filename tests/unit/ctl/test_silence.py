"""A daemon that stands still: who only looks is not kept waiting for it, nor who gives a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kfd.ctl import client
from kfd.ctl.__main__ import main


@pytest.fixture
def standing_still(
    socket_path: Path, other_process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The socket of one that is stopped by a signal: the kernel takes what is sent to it."""
    monkeypatch.setattr(client, "_LOOK_SECONDS", 0.2)
    other_process.send_signal(signal.SIGSTOP)
    return socket_path


@pytest.mark.parametrize(
    "verb",
    [
        ["status", "--check"],
        ["wait", "0" * 8],
        ["events", "--follow"],
        ["pause", "--wait", "--timeout", "0.1"],
    ],
    ids=" ".join,
)
def test_who_waits_is_told(
    standing_still: Path,
    verb: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, where the time is short; what changes something waits for longer."""
    monkeypatch.setattr(sys, "argv", ["kfdctl", *verb, "--socket", str(standing_still)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (75, "")
    assert err == (
        f"kfdctl: kfd at {standing_still} does not answer\n"
        "  fix: systemctl status kfd; journalctl -u kfd\n"
    )
