"""A host whose route takes the peer's records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.ledger import Ledger
from tests.parts import Receiving, receiving


@pytest.fixture
def parts(ledger: Ledger, tmp_path: Path) -> Iterator[Receiving]:
    """What receives and publishes, into ``data``."""
    with receiving(ledger, tmp_path / "data", mixed=True) as parts:
        yield parts
