"""The directory of an upload, and where its files are moved to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts import mounted


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    root = tmp_path / "uploads"
    (root / "d").mkdir(parents=True)
    (root / "d" / "run.trc").write_bytes(b"content")
    return root


@pytest.fixture
def done(tmp_path: Path) -> Path:
    return tmp_path / "done" / "here"


@pytest.fixture(params=["same", "other"])
def target(request: pytest.FixtureRequest, done: Path) -> Iterator[Path]:
    """Where files are moved to: on the same file system, and on another one."""
    if request.param == "same":
        yield done
    else:
        done.parent.mkdir()
        with mounted(done.parent, "tmpfs"):
            yield done
