"""Several hosts in one group that come, go, and stand still for too long.

A host is a daemon with a state directory, and a directory to receive into, of its own.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.offsets import Offsets, OffsetsWatch
from tests.faults.writer import CHUNKED, Writing
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.support import eventually

TWO_READERS = {"consumer_threads": 2}
SESSION = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}  # 6 s: brokers' least
PARTITIONS = 8
JOIN_SECONDS = 60.0  # by protocol consumer, a member that died is missed only after 45 s


@pytest.fixture
def offsets(bootstrap: str, topic: str) -> Iterator[Offsets]:
    """Those of the group in which all hosts of a test are."""
    found = Offsets(bootstrap, f"{topic}-readers", topic)
    yield found
    found.close()


def partitions_of(host: Host, since: int = 0) -> int:
    """How many partitions its threads last said they read, in its log from ``since`` on."""
    last: dict[str, int] = {}
    for line in host.log()[since:].splitlines():
        if ": reads partitions " in line:
            name, _, listed = line.partition(": reads partitions ")
            last[name.split()[-1]] = len(listed.strip("[]").split())
    return sum(last.values())


def joined(host: Host, since: int = 0) -> None:
    """Wait until it has partitions to read, by its log from ``since`` on."""
    eventually(lambda: partitions_of(host, since) > 0, JOIN_SECONDS)


def join(host: Host) -> None:
    """Start it and wait until it takes part."""
    since = len(host.log()) if host.log_file.exists() else 0
    host.start()
    joined(host, since)


def leave(host: Host) -> None:
    """Stop it in order."""
    assert host.terminate() == 0


def grow_or_shrink(hosts: Sequence[Host], rng: random.Random) -> str:
    """One of them joins or leaves; at least one stays."""
    running = [one for one in hosts if one.running]
    waiting = [one for one in hosts if not one.running]
    if waiting and (len(running) == 1 or rng.random() < 0.5):
        join(rng.choice(waiting))
        return "joined"
    leave(rng.choice(running))
    return "left"


def more(writing: Writing, files: int) -> None:
    """Wait until so many more were written."""
    enough = writing.files + files
    eventually(lambda: writing.files >= enough)


def on_several(judge: Judge) -> list[str]:
    """The transfers that came to more than one host."""
    hosts = Counter(tid for one in judge.arrivals for tid in one.times())
    return [tid.hex() for tid, count in hosts.items() if count > 1]


@pytest.mark.fault(number=9, name="group-grows-and-shrinks", rounds=3)
def test_nothing_is_lost_or_twice_while_members_come_and_go(
    make_host: MakeHost, rounds: int, rng: random.Random, whole: bool, figures: Figures
) -> None:
    sender = make_host("sender", receives=False, **CHUNKED)
    hosts = [make_host(name, sends=False, pools=TWO_READERS) for name in ("one", "two", "three")]
    sender.start()
    join(hosts[0])
    files = rounds * (1000 if whole else 250)
    with Judge([sender], hosts, shared=True) as judge:
        with Writing(sender, rng, pause=0.02) as writing:
            while writing.files < files:
                figures.add(grow_or_shrink(hosts, rng))
        verdict = judge.holds(60)
    twice = on_several(judge)
    figures.add("files", verdict.files)
    figures.add("twice across hosts", len(twice))
    figures.sample("seconds until all were there", verdict.seconds)
    assert not twice


@pytest.mark.fault(number=9, name="member-killed", rounds=4, short=0)
def test_nothing_is_lost_when_a_member_dies(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Across hosts what it had renamed and not committed comes again; on a host nothing does."""
    sender = make_host("sender", receives=False, **CHUNKED)
    hosts = [
        make_host(name, sends=False, pools=TWO_READERS, kafka=SESSION) for name in ("one", "two")
    ]
    for one in (sender, *hosts):
        one.start()
    with Judge([sender], hosts, shared=True) as judge:
        with Writing(sender, rng, pause=0.02) as writing:
            for _ in range(rounds):
                dying = rng.choice(hosts)
                joined(dying)
                more(writing, rng.randrange(20, 100))
                dying.kill9()
                more(writing, rng.randrange(20, 400))  # also past its session
                join(dying)
        verdict = judge.holds(60)
    figures.add("files", verdict.files)
    figures.add("twice across hosts", len(on_several(judge)))


@pytest.mark.fault(number=9, name="group-protocol-consumer", rounds=1, short=0)
def test_group_of_the_newer_protocol_loses_nothing(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """``group.protocol: consumer``: members leave in order, and one dies and comes back."""
    protocol = {"group.protocol": "consumer"}
    sender = make_host("sender", receives=False, **CHUNKED)
    hosts = [
        make_host(name, sends=False, pools=TWO_READERS, kafka=protocol) for name in ("one", "two")
    ]
    sender.start()
    join(hosts[0])
    with Judge([sender], hosts, shared=True) as judge, Writing(sender, rng) as writing:
        for _ in range(rounds):
            more(writing, 50)
            join(hosts[1])
            more(writing, 50)
            leave(hosts[0])
            more(writing, 50)
            join(hosts[0])
            more(writing, 50)
            assert on_several(judge) == []
            hosts[0].kill9()
            join(hosts[0])
            leave(hosts[1])
            verdict = judge.holds(60)
        figures.add("files", verdict.files)


@pytest.mark.fault(number=5, name="stopped-receiver", rounds=5)
def test_receiver_that_was_evicted_while_it_stood_still(
    make_host: MakeHost,
    offsets: Offsets,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    """SIGSTOP under load, until another one has read all; then SIGCONT. What it had in hand by
    then is neither published nor committed by it."""
    sender = make_host("sender", receives=False, **CHUNKED)
    hosts = [
        make_host(name, sends=False, pools=TWO_READERS, kafka=SESSION) for name in ("one", "two")
    ]
    for one in (sender, *hosts):
        one.start()
    with Judge([sender], hosts, shared=True) as judge, OffsetsWatch(offsets) as watch:
        for _ in range(rounds):
            stopped, other = rng.sample(hosts, 2)
            joined(stopped)
            _stand_still_under_load(sender, stopped, other, rng, figures)
        eventually(lambda: offsets.lag() == 0)
    judge.nothing_half()
    judge.once_on_each_host()
    judge.nothing_said_is_missing()
    judge.bad_records_are({})
    assert watch.fallen == []
    figures.add("files", sum(map(len, sender.versions.values())))
    figures.add("twice across hosts", len(on_several(judge)))


def _stand_still_under_load(
    sender: Host, stopped: Host, other: Host, rng: random.Random, figures: Figures
) -> None:
    """One round. Every name gets several versions, before and while it stands still."""
    with Writing(sender, rng, pause=0.002, names=150) as writing:
        more(writing, rng.randrange(50, 300))
        _stop(stopped)
        went, before, log = time.monotonic(), stopped.published(), len(stopped.log())
        more(writing, 200)
    try:
        eventually(lambda: partitions_of(other) == PARTITIONS)
        _newest_on(sender, (stopped, other))
        figures.sample("seconds until another one had taken over", time.monotonic() - went)
    finally:
        _signal(stopped, signal.SIGCONT)
    joined(stopped, log)
    assert stopped.published() == before, "published by an evicted member"


def _newest_on(sender: Host, hosts: Sequence[Host]) -> None:
    """Wait until the newest version of every file is on one of them."""

    def missing() -> list[bytes]:
        found = [one.published() for one in hosts]
        wanted = sender.sources()
        return [path for path in wanted if wanted[path] not in [one.get(path) for one in found]]

    eventually(lambda: not missing(), 60, every=0.2)


def _stop(host: Host) -> None:
    """Stop it, and wait until each of its threads stands still."""
    assert host.process is not None
    _signal(host, signal.SIGSTOP)
    tasks = Path(f"/proc/{host.process.pid}/task")
    eventually(lambda: all("State:\tT" in _status(one) for one in tasks.iterdir()))


def _status(task: Path) -> str:
    try:
        return (task / "status").read_text("ascii")
    except ProcessLookupError:
        return "State:\tT"  # it ended meanwhile


def _signal(host: Host, number: signal.Signals) -> None:
    assert host.process is not None
    host.process.send_signal(number)
