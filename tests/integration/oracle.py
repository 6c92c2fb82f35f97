"""What the tests know for themselves: which contents there may be, and what anybody could see."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.background import Background

LOOK_SECONDS = 0.005  # between two looks of a witness


def digest(content: bytes) -> str:
    """What contents are compared by; on purpose not the digest that kfd uses."""
    return hashlib.sha256(content).hexdigest()


class Tree:
    """The regular files below a directory, but for its ``.kfd``; read again when they change."""

    def __init__(self, directory: Path) -> None:
        self._top = os.fsencode(directory)
        self._read: dict[tuple[bytes, int, int, int, int], str] = {}

    def digests(self) -> dict[bytes, str]:
        """Path → digest. Files that go while it looks are left out."""
        return {path: found for path, (found, _) in self.files().items()}

    def files(self) -> dict[bytes, tuple[str, int]]:
        """Path → digest and inode."""
        found: dict[bytes, tuple[str, int]] = {}
        for path in self._paths():
            try:
                found[path] = self._look(path)
            except FileNotFoundError:
                continue
        return found

    def _paths(self) -> Iterator[bytes]:
        for parent, directories, names in os.walk(self._top):
            if parent == self._top and b".kfd" in directories:
                directories.remove(b".kfd")
            for name in names:
                yield os.path.relpath(os.path.join(parent, name), self._top)

    def _look(self, path: bytes) -> tuple[str, int]:
        with open(os.path.join(self._top, path), "rb", opener=_no_follow) as file:
            status = os.fstat(file.fileno())
            key = (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if key not in self._read:
                self._read[key] = digest(file.read())
            return self._read[key], status.st_ino


def _no_follow(path: bytes, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


class Witness(Background):
    """Looks at a tree all the time, in a thread, and remembers each content and inode it saw.

    Whatever has a final name at any moment is a whole version of that file, and it has it once.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__("witness")
        self.looks = 0
        self.contents: dict[bytes, set[str]] = defaultdict(set)
        self.inodes: dict[bytes, set[int]] = defaultdict(set)
        self._tree = Tree(directory)

    def saw_only(self, versions: Mapping[bytes, set[str]]) -> None:
        """Fail if anything else than these contents was ever seen under a final name."""
        assert self.looks > 1
        wrong = {path for path, seen in self.contents.items() if seen - versions.get(path, set())}
        assert not wrong, f"neither a whole version nor an expected name: {sorted(wrong)}"

    def saw_each_once(self) -> None:
        """Fail if any name was given to more than one file: it was published again."""
        again = {path for path, inodes in self.inodes.items() if len(inodes) > 1}
        assert not again, f"published more than once: {sorted(again)}"

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for path, (content, inode) in self._tree.files().items():
                self.contents[path].add(content)
                self.inodes[path].add(inode)
            self.looks += 1
