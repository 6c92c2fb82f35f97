"""Files in a watched directory that kfd may not read."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.privileges import unprivileged
from tests.support import eventually
from tests.watching import LONG_AGO, NEVER, put, watched


@pytest.fixture
def lab() -> Iterator[Path]:
    """A directory that everybody may reach, with a file that only its owner may read."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "sub").mkdir()
        put(top / "sub" / "secret", mtime=LONG_AGO)
        put(top / "sub" / "open", mtime=LONG_AGO)
        (top / "sub" / "secret").chmod(0o600)
        for directory in (top, top / "sub"):
            directory.chmod(0o755)
        yield top


@pytest.fixture(autouse=True)
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has files that others may not read")


def test_what_may_not_be_read_is_not_handed_over_until_it_may(lab: Path) -> None:
    with unprivileged(), watched(lab, settle=NEVER / 2) as seen:
        seen.saw("sub/open")
        seen.problem("can't be read: 1, such as sub/secret: Permission denied")
        assert seen.health.problems()[0].fix.endswith("kfdctl rescan lab")
        seen.scanned_again()
        assert seen.sink.paths() == {b"sub/open"}
        os.seteuid(0)
        (lab / "sub" / "secret").chmod(0o644)
        seen.watcher.rescan()
        seen.saw("sub/secret")
        seen.no_problem()


def put_closed(lab: Path, name: str) -> None:
    """A file that nobody may read, not even its owner, under its name at once."""
    hidden = lab / f".{name}"
    put(hidden)
    hidden.chmod(0)
    hidden.rename(lab / name)


def test_what_others_may_read_soon_after_is_sent_then(lab: Path) -> None:
    (lab / "sub" / "secret").unlink()
    lab.chmod(0o777)
    with unprivileged(), watched(lab, settle=2.0) as seen:
        seen.saw("sub/open")
        put_closed(lab, "soon")
        put_closed(lab, "never")
        eventually(lambda: seen.watcher._intake.next_due() < math.inf)
        (lab / "soon").chmod(0o644)
        seen.saw("soon")
        seen.problem("can't be read: 1, such as never: Permission denied")
        assert seen.sink.paths() == {b"sub/open", b"soon"}


def test_one_that_is_skipped_is_no_problem(lab: Path) -> None:
    with unprivileged(), watched(lab, prepare=_skip_all, settle=NEVER / 2) as seen:
        seen.saw("sub/open", "sub/secret")
        assert not seen.health.problems()


def _skip_all(watcher: object) -> None:
    watcher._intake._sink.born_ns = 2**63  # type: ignore[attr-defined]
