"""An assembler that is fed record by record."""

from __future__ import annotations

import pytest

from tests.unit.assembly.files import Feed


@pytest.fixture
def feed() -> Feed:
    return Feed()
