"""What is received, in order."""

from __future__ import annotations

import pytest

from tests.parts import Receiving
from tests.unit.publishing.streams import Stream


@pytest.fixture
def stream(parts: Receiving) -> Stream:
    return Stream(parts)
