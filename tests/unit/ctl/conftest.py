"""What kfdctl sends in tests, and whom it asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import CHECKOUT


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run42.trc"
    path.write_bytes(b"v" * 2048)
    return path


@pytest.fixture
def other_process(socket_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon in a process of its own, which ends when it is told to, as the real one does."""
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
        yield process
        process.kill()
