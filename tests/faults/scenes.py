"""Two hosts that live through one crash point after the other, and are judged all the while."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from kfd.daemon.crashpoint import VARIABLE
from tests.broker import new_topic
from tests.faults.evidence import source_of
from tests.faults.judge import Allowed, Judge, rows
from tests.integration.conftest import ONE_READER
from tests.integration.host import Host
from tests.support import eventually, unavailable

ELSEWHERE = "ANOTHER FILE SYSTEM"
"""In the settings of an upload: a directory that is not on that of the test."""

SETTINGS = {"chunk_size": "64KiB", "pools": ONE_READER}


@dataclass
class Scene:
    """Two hosts on a topic, and what a scenario does to them."""

    sender: Host
    receiver: Host
    judge: Judge
    bootstrap: str
    topic: str
    rng: random.Random = field(default_factory=random.Random)  # that of the test
    least: Counter[str] = field(default_factory=Counter)  # bad records that there must be by now,
    most: Counter[str] = field(default_factory=Counter)  # and may be

    def hosts(self) -> tuple[Host, Host]:
        """Both."""
        return self.sender, self.receiver

    def alive(self) -> bool:
        """Whether the crash point has not been reached."""
        return self.sender.running and self.receiver.running

    def up(self) -> bool:
        """Wait until both hosts are ready; false if one has died before."""
        return all(host.came_up() for host in self.hosts())

    def start(self) -> None:
        """Those that don't run."""
        for host in self.hosts():
            if not host.running:
                host.start()

    def kill(self) -> None:
        """Both hosts."""
        for host in self.hosts():
            host.kill9()

    @contextmanager
    def armed(self, point: str) -> Iterator[None]:
        """Both run, and die when they come to ``point``; on leaving one has, and both are down."""
        for host in self.hosts():
            host.environment[VARIABLE] = point
            host.spawn()
        try:
            yield
            ends = {host.process.poll() for host in self.hosts() if host.process}
            assert ends <= {None, -signal.SIGKILL}, "it ended by itself"
        finally:
            for host in self.hosts():
                host.environment.clear()
            self.kill()

    def allow(self, bad: Allowed) -> None:
        """What is about to happen makes records that aren't used."""
        for reason, (least, most) in bad.items():
            self.least[reason] += least
            self.most[reason] += most

    def holds(self, deadline: float) -> None:
        """The verdict on all that has happened so far."""
        bad = {reason: (self.least[reason], most) for reason, most in self.most.items()}
        self.judge.holds(deadline, bad=bad)
        eventually(lambda: self._catalogued() == self._published(), deadline)

    def _published(self) -> list[str]:
        found = rows(self.receiver, "SELECT hex(tid) FROM incoming WHERE state = 'published'")
        return sorted(tid.lower() for (tid,) in found)

    def _catalogued(self) -> list[str]:
        """The transfers of which the receiver's catalogue has a row, each as often as it has."""
        with closing(sqlite3.connect(_catalogue(self.receiver.state.parent), timeout=10)) as table:
            return sorted(tid for (tid,) in table.execute("SELECT tid FROM kfd_files"))


class Scenes:
    """One for each way to send; a new one after a test that failed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._made: dict[str, tuple[Scene, ExitStack]] = {}

    @contextmanager
    def sending(self, bootstrap: str, upload: Mapping[str, Any]) -> Iterator[Scene]:
        """That with these settings of the sender's route."""
        scene, parts = self._made.get(repr(upload)) or self._make(bootstrap, upload)
        try:
            yield scene
        except BaseException:
            del self._made[repr(upload)]
            parts.__exit__(*sys.exc_info())
            raise

    def close(self) -> None:
        """End all of them."""
        for _, parts in self._made.values():
            parts.close()

    def _make(self, bootstrap: str, upload: Mapping[str, Any]) -> tuple[Scene, ExitStack]:
        self._number += 1
        home = self._directory / str(self._number)
        with ExitStack() as parts:
            topic = parts.enter_context(new_topic(bootstrap))
            settings = _somewhere(upload, parts, self._directory)
            sender, receiver = (
                parts.enter_context(Host(home / name, bootstrap, topic, **half, **SETTINGS))
                for name, half in (
                    ("sender", {"receives": False, "upload": settings}),
                    ("receiver", {"sends": False, "catalogue": _catalogues(home / "receiver")}),
                )
            )
            judge = Judge(
                [sender], [receiver], source_of=source_of, wanted=lambda: dict(sender.newest)
            )
            parts.enter_context(judge)
            scene = Scene(sender, receiver, judge, bootstrap, topic)
            self._made[repr(upload)] = scene, parts.pop_all()
        return self._made[repr(upload)]


def _catalogue(home: Path) -> Path:
    return home / "catalogue.db"


def _catalogues(home: Path) -> dict[str, Any]:
    return {"lab": {"url": f"sqlite:///{_catalogue(home)}"}}


def _somewhere(upload: Mapping[str, Any], parts: ExitStack, own: Path) -> dict[str, Any]:
    """The settings, with a directory in the place of ``ELSEWHERE``."""
    if upload.get("then") != {"move": ELSEWHERE}:
        return dict(upload)
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == own.stat().st_dev:
        unavailable("there is no second file system at /dev/shm")
    directory = mkdtemp(dir=memory, prefix="kfd-test-")
    parts.callback(shutil.rmtree, directory)
    return {**upload, "then": {"move": directory}}
