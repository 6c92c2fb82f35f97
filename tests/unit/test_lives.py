"""Any life of two hosts of a group on one partition: interleaved and repeated records, checkpoints,
commits that are made or lost, kills with and without a power cut, partitions that change hands.

The oracle knows only what was sent: at the end every file is there, whole, and no host has
published one twice.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kfd.daemon.incoming.record import Record
from kfd.daemon.ledger import dropped, queries
from kfd.daemon.publishing import partialmark
from kfd.daemon.publishing.destination import PartKey
from kfd.daemon.publishing.partials import sweep
from kfd.daemon.publishing.settlement import settle
from kfd.offsets import decode
from tests.parts import ROUTE, TOPIC, TOPIC_ID, Receiving, Sent, receiving, running_ledger, visible


class Host:
    """A daemon's directory and ledger, and its receiving parts while it lives."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.parts: Receiving | None = None
        self._life = ExitStack()

    def start(self) -> Receiving:
        ledger = self._life.enter_context(running_ledger(self.home / "state"))
        self.parts = self._life.enter_context(receiving(ledger, self.home / "data", take=False))
        settle(ROUTE, self.parts.destination, ledger)
        sweep(self.parts.destination, TOPIC, 0)
        return self.parts

    def die(self) -> None:
        """What is in memory is gone."""
        self.parts = None
        self._life.close()

    def cut_power(self) -> None:
        """What was written and not synced is gone as well, or is rubbish."""
        for path in (self.home / "data" / ".kfd").glob("*.part"):
            key = PartKey.of(path.name)
            assert key is not None
            with path.open("r+b") as file:
                mark = partialmark.read(file.fileno(), key)
                size = mark.size if mark else 0
                end = path.stat().st_size
                file.truncate(size)
                file.truncate(end)


class Lives(RuleBasedStateMachine):
    """The partition, and who reads it."""

    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="kfd-lives-"))
        self.hosts = [Host(self.top / name) for name in ("one", "other")]
        self.sent: list[Sent] = []
        self.unsent: list[list[Record]] = []
        self.log: list[Record] = []
        self.offset, self.said = 0, ""  # what the group has committed
        self.owner = 0
        self.orderly = True
        self.position = 0
        self.take()

    def teardown(self) -> None:
        try:
            self.all_arrives()
        finally:
            for host in self.hosts:
                host.die()
            shutil.rmtree(self.top, ignore_errors=True)

    @property
    def parts(self) -> Receiving:
        parts = self.hosts[self.owner].parts
        assert parts is not None
        return parts

    def take(self) -> None:
        host = self.hosts[self.owner]
        parts = host.parts or host.start()
        progress = decode(self.said)
        self.position = parts.receiver.take(0, TOPIC_ID, self.offset, progress)
        assert self.position >= self.offset

    @rule(data=st.data(), sizes=st.lists(st.integers(0, 40), max_size=3))
    def send(self, data: st.DataObject, sizes: list[int]) -> None:
        """Begin files, and produce records of any of those under way; some come again."""
        for size in sizes:
            one = Sent(os.urandom(size), b"%d" % len(self.sent))
            self.sent.append(one)
            self.unsent.append(one.records())
        for _ in range(data.draw(st.integers(1, 12))):
            if not self.unsent:
                return
            queue = data.draw(st.sampled_from(self.unsent))
            self.append(queue[0])
            if data.draw(st.integers(0, 19)):
                queue.pop(0)
            else:  # a host that gets it later can't know that another one has it
                self.orderly = False
            self.unsent = [queue for queue in self.unsent if queue]

    def append(self, one: Record) -> None:
        self.log.append(Record(0, len(self.log), one.headers, one.value))

    @rule(count=st.integers(1, 30), leaving=st.booleans(), commits=st.booleans())
    def work(self, count: int, leaving: bool, commits: bool) -> None:
        """Read; the checkpoint and the commit may come or not."""
        self.read(count)
        if leaving:
            self.parts.receiver.checkpoint(leaving=True)
        if commits:
            self.commit()

    def read(self, count: int) -> None:
        records = self.log[self.position : self.position + count]
        self.parts.receiver.receive(records)
        self.position += len(records)
        self.position = self.parts.receiver.take_rewinds().get(0, self.position)

    def commit(self) -> None:
        progress = self.parts.receiver.progress()[0]
        assert progress.offset >= self.offset
        self.offset, self.said = progress.offset, progress.encode()

    @rule()
    def forget_what_was_said(self) -> None:
        """Another program commits, or the text was too long."""
        self.said = ""
        self.orderly = False

    @rule()
    def hand_over(self) -> None:
        """An orderly rebalance."""
        self.parts.receiver.checkpoint(leaving=True)
        self.commit()
        self.parts.receiver.drop([0])
        self.owner = 1 - self.owner
        self.take()

    @rule(power=st.booleans(), moves=st.booleans())
    def kill(self, power: bool, moves: bool) -> None:
        self.hosts[self.owner].die()
        if power:
            self.hosts[self.owner].cut_power()
        self.owner ^= moves
        self.orderly = False
        self.take()

    @rule()
    def restart_in_order(self) -> None:
        self.parts.receiver.checkpoint(leaving=True)
        self.commit()
        self.parts.receiver.drop([0])
        self.hosts[self.owner].die()
        self.take()

    @invariant()
    def what_is_seen_is_whole(self) -> None:
        whole = {one.path: one.content for one in self.sent}
        for host in self.hosts:
            seen = visible(host.home / "data") if host.home.exists() else {}
            assert seen.items() <= whole.items()

    def all_arrives(self) -> None:
        """Send and read everything that is left."""
        for queue in self.unsent:
            for one in queue:
                self.append(one)
        self.unsent = []
        for _ in range(3 * len(self.log) + 1):
            if self.position == len(self.log):
                break
            self.read(30)
        assert self.position == len(self.log)
        assert self.parts.receiver.safe_offsets() == {0: len(self.log)}
        assert self.parts.parts() == []
        seen = [visible(host.home / "data") for host in self.hosts if host.home.exists()]
        for one in self.sent:
            times = sum(one.path in files for files in seen)
            assert times >= 1
            assert times == 1 or not self.orderly
        self.each_once_on_a_host()

    def each_once_on_a_host(self) -> None:
        for host in self.hosts:
            if host.parts is None:
                continue
            reader = host.parts.ledger.reader()
            published = [one for one in queries.tallies(reader) if one.state == "published"]
            files = len(visible(host.home / "data"))
            assert sum(one.count for one in published) == files
            assert set(dropped.bad_counts(reader, ROUTE)) <= {"duplicate", "orphan"}


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
