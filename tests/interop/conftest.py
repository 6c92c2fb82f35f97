"""Fixtures for openmsistream's programs and kfd on one topic."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import make_host  # noqa: F401 (a fixture)
from tests.interop.peer import Peer


@pytest.fixture
def peer(tmp_path: Path, bootstrap: str, topic: str) -> Peer:
    """The programs of openmsistream on the test's topic."""
    return Peer(tmp_path / "peer", bootstrap, topic)
