"""A file that was sent and delivered, and what is done with it then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kfd.config.values import Then
from kfd.daemon import crashpoint
from kfd.daemon.disposal.disposal import Disposer
from kfd.daemon.ledger.disposals import Disposal
from tests.parts import in_child, version_of

TID = bytes(range(16))


PATH = b"d/run.trc"


DELETE = Then("delete")


def sent(root: Path, path: bytes = PATH, *, inodes: bool = True) -> Disposal:
    """A file as it is now, as the version that was sent."""
    one = version_of(Path(os.fsdecode(os.path.join(os.fsencode(root), path))), inodes=inodes)
    return Disposal(1, TID, path, one.source, one.device, one.inode, one.size, one.mtime_ns)


def dispose(root: Path, then: Then, *files: Disposal) -> list[bool]:
    with Disposer(root, then, lambda: identity(root)).batch() as batch:
        return [batch.dispose(one) for one in files]


def identity(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_dev, status.st_ino


def left_over(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".kfd").iterdir())


def killed_at(place: str, work: Callable[[], object]) -> None:
    """Do it in a process that is killed there; it must come there."""

    def child() -> None:
        crashpoint._target = crashpoint._Target(place)
        work()

    assert in_child(child) == -9, place


NEW = b"newer content"


def change_content(file: Path) -> None:
    with file.open("ab") as writer:
        writer.write(b"!")
