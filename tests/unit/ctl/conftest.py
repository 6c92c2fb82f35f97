"""What kfdctl sends in tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run42.trc"
    path.write_bytes(b"v" * 2048)
    return path
