"""What tests of every kind share: polling with a deadline, and the rule that CI skips nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

T = TypeVar("T")


def eventually(look: Callable[[], T], deadline: float = 60, every: float = 0.02) -> T:
    """Call ``look`` until it returns something true, which is returned.

    Fails after ``deadline`` seconds with what it returned last: long enough for a machine that has
    much else to do. An exception that ``look`` raises is not caught.
    """
    end = time.monotonic() + deadline
    while not (seen := look()):
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline} s; last seen: {seen!r}")
        time.sleep(every)
    return seen


def unavailable(reason: str) -> NoReturn:
    """Skip a test whose real part isn't here; in CI, where every part is, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (nothing is skipped in CI)")
    pytest.skip(reason)
