"""Decides about each file that is seen: settled, to stand still first, or no business of kfd's."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from kfd.daemon.fileversion import FileSink, FileVersion
from kfd.daemon.health import Health
from kfd.daemon.watcher.candidates import Candidates
from kfd.daemon.watcher.root import Root
from kfd.daemon.watcher.scans import Scan
from kfd.daemon.watcher.signs import Sign
from kfd.daemon.watcher.sweep import Enter, Failed, Found, look_up, unreadable, walk
from kfd.daemon.watcher.tally import Tally
from kfd.paths import BadPath, check_wire_path
from kfd.selection import Selection

BATCH: Final = 1000  # files handed to the sink at once, and names looked at between two batches
_MAX_CANDIDATES: Final = 20_000  # some 500 bytes each


class Intake:
    """The way of a route's files from the directory to the sink. Used by the watcher's thread."""

    def __init__(
        self,
        route: str,
        root: Root,
        selection: Selection,
        sink: FileSink,
        health: Health,
        *,
        limit: int = _MAX_CANDIDATES,
    ) -> None:
        self._route = route
        self._root = root
        self._selection = selection
        self._sink = sink
        self._candidates = Candidates(limit)
        self._unsendable = Tally(
            *(health, route, "names", "names that can't be sent"),
            f"rename these files, then: kfdctl rescan {route}",
        )
        self._unreadable = Tally(
            *(health, route, "unreadable", "directories or files that can't be read"),
            f"let kfd's user read and search them, then: kfdctl rescan {route}",
        )
        self.inodes = True  # whether device and inode tell files apart here
        self.settle = 0.0  # seconds for which a file must stand still
        self.dropped = False  # there was no room for a file: a full scan has to find it again

    @property
    def full(self) -> bool:
        """Whether so many files wait that a scan must not add more."""
        return self._candidates.room < BATCH

    @property
    def troubled(self) -> bool:
        """Whether the last full scan could not look everywhere."""
        return self._unreadable.count > 0

    def next_due(self) -> float:
        """When, by the monotonic clock, :meth:`look_at_candidates` has something to do."""
        return self._candidates.next_due()

    def forget_candidates(self) -> None:
        """Wait for no file any more; a full scan finds those again that are there."""
        self._candidates.clear()

    def enters(self, directory: bytes) -> bool:
        """Whether there can be files to send below this directory."""
        return not directory or (
            self._selection.enters(directory) and _refusal(directory + b"/x") is None
        )

    def hear(self, signs: Mapping[bytes, Sign]) -> None:
        """Look at these files, at most a batch, and hand over those which have settled."""
        wanted = filter(self._wanted, signs)
        settled = [one for one in self._look_up(wanted) if self._has_settled(one, signs[one.path])]
        readable = self._readable(settled, lambda *_: None)
        self._hand_over(readable)
        readable_paths = {one.path for one in readable}
        for one in settled:  # many a program closes a file first, and lets others read it then
            if one.path not in readable_paths:
                self._wait_for(one)

    def look_at_candidates(self) -> None:
        """Hand over those, at most a batch, which have stood still long enough."""
        now = time.monotonic()
        due = self._candidates.due(now, BATCH)
        if not due:
            return
        versions = {version.path: version for version in self._look_up(due)}
        for path in due:
            if path not in versions:
                self._candidates.discard(path)
        again = now + self.settle
        stood = [one for one in versions.values() if self._candidates.stands(one, again)]
        self._hand_over(self._readable(stood, self._failed))

    def scan(self, top: bytes, enter: Enter) -> Scan:
        """Look at all files below the directory ``top``, b"" for all; yields between batches."""
        if not top:
            self._unsendable.restart()
            self._unreadable.restart()
        with self._root.opened() as descriptor:
            batch: list[FileVersion] = []
            for seen, found in enumerate(walk(descriptor, top, enter, self._failed), 1):
                batch += self._examine(found)
                if seen % BATCH == 0:
                    self._take(batch)
                    batch = []
                    yield
            self._take(batch)
        if not top:
            self._unsendable.conclude()
            self._unreadable.conclude()

    def _examine(self, found: Found) -> Iterator[FileVersion]:
        path, entry = found
        try:
            if entry.is_file(follow_symlinks=False):
                if self._wanted(path):
                    yield self._version(path, entry.stat(follow_symlinks=False))
            elif entry.is_dir(follow_symlinks=False) and self._selection.enters(path):
                self._sendable(path + b"/x", path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._failed(path, error)

    def _take(self, batch: list[FileVersion]) -> None:
        """Go on with a batch that a scan has found."""
        if batch:
            unknown = self._sink.unknown(self._route, batch)
            settled = [one for one in unknown if self._has_settled(one, Sign.FOUND)]
            self._hand_over(self._readable(settled, self._failed))

    def _has_settled(self, version: FileVersion, sign: Sign) -> bool:
        """Whether the file can be sent at once; if not, it is a candidate from now on."""
        if sign is Sign.CLOSED or (sign is Sign.FOUND and self._is_old(version)):
            return True
        self._wait_for(version)
        return False

    def _wait_for(self, version: FileVersion) -> None:
        if not self._candidates.add(version, time.monotonic() + self.settle):
            self.dropped = True

    def _is_old(self, version: FileVersion) -> bool:
        return time.time_ns() - version.mtime_ns > self.settle * 1e9

    def _hand_over(self, settled: list[FileVersion]) -> None:
        for version in settled:
            self._candidates.discard(version.path)
        if settled:
            self._sink.settled(self._route, settled)

    def _readable(self, versions: list[FileVersion], failed: Failed) -> list[FileVersion]:
        """Without those that kfd may not read: each scan would add one more that failed."""
        wanted = [one.path for one in versions if not self._sink.skips(one)]
        if not wanted:
            return versions
        with self._root.opened() as descriptor:
            closed = set(unreadable(descriptor, wanted, failed))
        return [one for one in versions if one.path not in closed]

    def _look_up(self, paths: Iterable[bytes]) -> Iterator[FileVersion]:
        with self._root.opened() as descriptor:
            for path, status in look_up(descriptor, paths, self._failed):
                if stat.S_ISREG(status.st_mode):
                    yield self._version(path, status)

    def _version(self, path: bytes, status: os.stat_result) -> FileVersion:
        return FileVersion.of(path, self._root.prefix + path, status, inodes=self.inodes)

    def _wanted(self, path: bytes) -> bool:
        return self._selection.takes(path) and self._sendable(path, path)

    def _sendable(self, path: bytes, named: bytes) -> bool:
        refusal = _refusal(path)
        if refusal is not None:
            self._unsendable.note(named, refusal)
        return refusal is None

    def _failed(self, path: bytes, error: OSError) -> None:
        self._unreadable.note(path, error.strerror or str(error))


def _refusal(path: bytes) -> str | None:
    try:
        check_wire_path(path)
    except BadPath as refused:
        return str(refused)
    return None
