"""What is forgotten of files that are gone, and what isn't."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kfd.daemon.housekeeping import Housekeeper
from kfd.daemon.ledger import accepting, known
from kfd.daemon.ledger.accepting import Offer
from tests.parts import running_ledger, version_of
from tests.privileges import unprivileged


class House:
    """A housekeeper of one upload route, over a real ledger and a real directory."""

    def __init__(self, directory: Path) -> None:
        self.lab = directory / "lab"
        self.lab.mkdir()
        status = self.lab.stat()
        self.watcher = SimpleNamespace(identity=(status.st_dev, status.st_ino))

    def forget(self, ledger: Any) -> None:
        route = SimpleNamespace(directory=self.lab, topic="t")
        uploads = SimpleNamespace(watchers={"lab": self.watcher}, routes={"lab": route})
        context = SimpleNamespace(ledger=ledger, cluster=None, topics=None)
        keeper = Housekeeper(context, uploads, None, 90.0)  # type: ignore[arg-type]
        for route, topic in known.destinations(ledger.reader()):
            keeper._forget_files(route, topic)

    def accept(self, ledger: Any, *names: str) -> None:
        for name in names:
            (self.lab / name).parent.mkdir(exist_ok=True)
            (self.lab / name).write_text(name)
        versions = []
        for name in names:
            one = version_of(self.lab / name)
            versions.append(type(one)(name.encode(), *(getattr(one, f) for f in _OTHERS)))
        offer = Offer("lab", "t", versions, 1024, {})
        ledger.write(lambda db: accepting.accept(db, offer))

    def known_paths(self, ledger: Any) -> list[bytes]:
        return [path for path, _ in known.after(ledger.reader(), "lab", "t", b"", 100)]


_OTHERS = ("source", "device", "inode", "size", "mtime_ns", "mode", "ctime_ns")


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running_ledger(tmp_path / "state") as ledger:
        house.accept(ledger, "a", "b", "d/c")
        (house.lab / "b").unlink()
        house.forget(ledger)
        assert house.known_paths(ledger) == [b"a", b"d/c"]
        (house.lab / "d" / "c").unlink()
        (house.lab / "d").rmdir()
        (house.lab / "d").write_text("a file now")
        house.forget(ledger)
        assert house.known_paths(ledger) == [b"a"]


def test_unmounted_directory_is_not_empty_of_files(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running_ledger(tmp_path / "state") as ledger:
        house.accept(ledger, "a", "b")
        (house.lab).rename(tmp_path / "share")
        house.forget(ledger)
        house.lab.mkdir()  # what was under the mount
        house.forget(ledger)
        assert house.known_paths(ledger) == [b"a", b"b"]


def test_files_that_cannot_be_looked_at_are_not_gone(tmp_path: Path) -> None:
    """A directory that is closed for an hour must not make everything in it be sent again."""
    with (
        running_ledger(tmp_path / "state") as ledger,
        tempfile.TemporaryDirectory() as public,  # everybody may reach it
    ):
        os.chmod(public, 0o755)
        house = House(Path(public))
        house.accept(ledger, "a", "closed/b")
        house.known_paths(ledger)  # connects, which only the owner may
        (house.lab / "closed").chmod(0)
        with unprivileged():
            house.forget(ledger)
        (house.lab / "closed").chmod(0o755)
        assert house.known_paths(ledger) == [b"a", b"closed/b"]


def test_unreachable_file_was_really_looked_at(tmp_path: Path) -> None:
    """The test above looks at a directory that can be looked at: what is gone there is seen."""
    with running_ledger(tmp_path / "state") as ledger, tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        house = House(Path(public))
        house.accept(ledger, "a", "b")
        house.known_paths(ledger)
        (house.lab / "b").unlink()
        with unprivileged():
            house.forget(ledger)
        assert house.known_paths(ledger) == [b"a"]
