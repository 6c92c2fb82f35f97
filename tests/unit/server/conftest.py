"""A client of the control server, and a file to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rawclient import Raw


@pytest.fixture
def raw(served: Path) -> Iterator[Raw]:
    with Raw(served) as client:
        yield client


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run42.trc"
    path.write_bytes(b"volts")
    return path
