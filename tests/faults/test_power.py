"""The power goes: what was only in caches is lost, what was acknowledged is not.

Each ledger has an ext4 of its own, and so has what is published: on one with the ledger, making
that durable would make renames durable by accident. The files that are sent lie elsewhere: keeping
them is up to who writes them.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults.evidence import whole_on_topic
from tests.faults.frame import Figures
from tests.faults.judge import Judge, accepted, ended
from tests.faults.loopfs import LoopDisk
from tests.faults.writer import Writing
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Tree

CHUNKED = {"chunk_size": "64KiB", "pools": ONE_READER}
WORKS_SECONDS = 1.5  # at most, before the power is cut
LEDGER = "ledger.db"
DELIVERED = "delivered"  # what is in Kafka may be by the next look
TRANSIENT = ("queued", "sending", "publishing")


class Powered:
    """A daemon whose ledger, and what it publishes, are on disks whose power can be cut."""

    def __init__(self, host: Host, disks: Sequence[LoopDisk], scratch: Path) -> None:
        """The ledger is on the first one."""
        self.host = host
        self.disks = disks
        self.said: dict[bytes, str] = {}  # tid → state, as anybody could have seen them
        self._scratch = scratch
        host.state = disks[0].root / "state"

    def start(self) -> None:
        """Start it if it doesn't run."""
        if not self.host.running:
            self.host.start()

    def lose_power(self) -> None:
        """Cut the power of its disks and its own. Then they are back, and it doesn't run."""
        self.said = dict(accepted(self.host) + ended(self.host))
        for disk in self.disks:
            disk.cut()
        self.host.kill9()
        for disk in self.disks:
            disk.restore()

    def keeps_what_it_said(self) -> int:
        """Fail unless the ledger opens and knows all that it has said; how much that is."""
        now = self._recovered()
        lost = [tid.hex() for tid in self.said if tid not in now]
        assert not lost, f"acknowledged, and lost: {lost}"
        over = {tid: state for tid, state in self.said.items() if state not in TRANSIENT}
        fallen = [tid.hex() for tid, state in over.items() if now[tid] not in (state, DELIVERED)]
        assert not fallen, f"went back from how they had ended: {fallen}"
        return len(over)

    def published(self) -> set[bytes]:
        """The names that its ledger calls published."""
        ledger = f"file:{self.host.state / LEDGER}?mode=ro"
        with closing(sqlite3.connect(ledger, uri=True, timeout=10)) as database:
            return {
                name
                for (name,) in database.execute(
                    "SELECT name FROM incoming WHERE state = 'published'"
                )
            }

    def _recovered(self) -> dict[bytes, str]:
        """Tid → state; from a copy, so that recovering the ledger is left to kfd."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        shutil.copytree(self.host.state, self._scratch)
        with closing(sqlite3.connect(self._scratch / LEDGER)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return {
                tid: state
                for table in ("outgoing", "incoming")
                for tid, state in database.execute(f"SELECT tid, state FROM {table}")
            }


class Published:
    """What was seen on the receiver's disk each time that it had its power back."""

    def __init__(self, sender: Host, receiver: Powered) -> None:
        self._sender = sender
        self._receiver = receiver
        self._known: dict[bytes, tuple[str, int]] = {}  # path → digest and inode

    def is_whole_and_stays(self) -> None:
        """Fail unless every file is a whole version, and what was there still is, or is newer."""
        # looked at afresh: the disk may have forgotten what another tree remembers
        files = Tree(self._receiver.host.down).files()
        wrong = [path for path, (found, _) in files.items() if found not in self._versions(path)]
        assert not wrong, f"no whole version after the power cut: {wrong}"
        gone = self._known.keys() - files.keys()
        assert not gone, f"published, and gone: {gone}"
        again = [
            path
            for path, (found, inode) in self._known.items()
            if files[path][0] == found and files[path][1] != inode
        ]
        assert not again, f"published again: {again}"

    def note(self) -> None:
        """From now on what the ledger calls published is durable."""
        names = self._receiver.published()  # first: what it calls so has its name by then
        files = Tree(self._receiver.host.down).files()
        self._known = {name: files[name] for name in names}

    def _versions(self, path: bytes) -> set[str]:
        return self._sender.versions.get(path, set())


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[str], LoopDisk]]:
    """Make disks, mounted: ``disks(NAME)``."""
    with ExitStack() as mounted:

        def make(name: str) -> LoopDisk:
            disk = LoopDisk(tmp_path / f"{name}.img", tmp_path / f"{name}.disk")
            return mounted.enter_context(disk)

        yield make


@pytest.fixture
def sides(
    disks: Callable[[str], LoopDisk], make_host: MakeHost, tmp_path: Path
) -> tuple[Powered, Powered]:
    """A sender and a receiver, each on disks of its own; not running."""
    sent, received, published = map(disks, ("sent", "received", "published"))
    sender = make_host("sender", receives=False, **CHUNKED)
    receiver = make_host("receiver", sends=False, down=published.root / "down", **CHUNKED)
    return (
        Powered(sender, [sent], tmp_path / "sender's"),
        Powered(receiver, [received, published], tmp_path / "receiver's"),
    )


@pytest.mark.fault(number=20, name="power-cut", rounds=30, short=3)
def test_what_was_acknowledged_survives_a_power_cut(
    sides: tuple[Powered, Powered],
    bootstrap: str,
    topic: str,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    sender, receiver = sides
    published = Published(sender.host, receiver)
    for number in range(rounds):
        for side in sides:
            side.start()
        with ExitStack() as work:
            work.enter_context(Writing(sender.host, rng, pause=0.005))
            time.sleep(rng.uniform(0.1, WORKS_SECONDS))  # not a wait for anything: the moment
            if number % 2:  # what was done last is made durable by nothing that follows
                work.close()
                receiver.host.receives_all(sender.host)
            published.note()
            for side in ((sender,), (receiver,), sides)[number % 3]:
                side.lose_power()
                figures.add("acknowledged before a cut", side.keeps_what_it_said())
                figures.add("power cuts")
        published.is_whole_and_stays()
    with Judge([sender.host], [receiver.host]) as judge:
        for side in sides:
            side.start()
        figures.sample("seconds until all were there", judge.all_published(60))
        # what came before it was entered, the judge hasn't seen
        judge.nothing_half()
        judge.once_on_each_host()
        judge.nothing_said_is_missing()
        judge.bad_records_are({})
        figures.add("files", len(judge.wanted()))
    on_topic = whole_on_topic(bootstrap, topic)
    assert set(on_topic.values()) == {1}, "a version was sent twice"
