"""Work for a long time, with everything that may happen meanwhile: nothing grows."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.broker import Broker
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.writer import CHUNKED, Writing
from tests.integration.conftest import MakeHost
from tests.integration.daemon import Daemon
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.integration.records import Sender
from tests.support import eventually

MIB = 1 << 20
FULL_MINUTES = 120
WARM_UP = 0.25  # of the time, in which caches fill
LOOK_SECONDS = 2.0
LOOKS = 15  # of which the lowest counts: what is needed for a moment only is no growth
SLOPE = 5.0  # MiB an hour
DESCRIPTORS = 8  # more than before, at most: what is just being done


@dataclass
class Sizes:
    """Memory and descriptors of a daemon over time."""

    daemon: Daemon
    seconds: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)  # MiB
    descriptors: list[int] = field(default_factory=list)

    def look(self, now: float) -> None:
        """One more sample."""
        self.seconds.append(now)
        self.rss.append(self.daemon.rss() / MIB)
        self.descriptors.append(self.daemon.descriptors())

    def settled(self) -> slice:
        """The samples after the warm-up."""
        return slice(int(len(self.seconds) * WARM_UP), None)

    def slope(self) -> float:
        """MiB an hour, after the warm-up, of what it never goes below."""
        rss = self.rss[self.settled()]
        lowest = [min(rss[at : at + LOOKS]) for at in range(0, len(rss) - LOOKS + 1, LOOKS)]
        if len(lowest) < 2:
            return 0.0
        seconds = [at * LOOKS * LOOK_SECONDS for at in range(len(lowest))]
        return 3600 * statistics.linear_regression(seconds, lowest).slope

    def grown(self) -> int:
        """Descriptors at the end beyond those after the warm-up."""
        part = self.descriptors[self.settled()]
        tenth = max(1, len(part) // 10)
        return round(statistics.median(part[-tenth:]) - statistics.median(part[:tenth]))


class Mischief:
    """What may happen at any time, one thing after the other, in an order of its own."""

    def __init__(
        self, sender: Host, receiver: Host, third: Host, broker: Broker, topic: str,
        rng: random.Random, figures: Figures,
    ) -> None:  # fmt: skip
        self._sender = sender
        self._receiver = receiver
        self._third = third
        self._broker = broker
        self._rng = rng
        self._figures = figures
        self._foreign = Sender(broker.bootstrap, topic)
        self.foreign = 0

    def happens(self) -> None:
        """One of them."""
        name, action = self._rng.choice(list(self._all()))
        action()
        self._figures.add(name)

    def _all(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "kills of another receiver", self._kill_third
        yield "files changed while read", self._change
        yield "foreign records", self._send_foreign
        yield "commands", self._ask
        yield "files removed", self._remove
        yield "broker restarts", self._restart_broker

    def _kill_third(self) -> None:
        self._third.kill9()
        self._third.start()

    def _change(self) -> None:
        content = self._rng.randbytes(3 * MIB)
        name = self._sender.put("changing", content)
        more = self._rng.randbytes(1000)
        self._sender.newest[name] = digest(content + more)
        self._sender.versions[name].add(self._sender.newest[name])
        with (self._sender.up / "changing").open("ab") as file:
            file.write(more)

    def _send_foreign(self) -> None:
        for _ in range(100):
            self._foreign.raw([("other", b"?")], self._rng.randbytes(100))
        self._foreign.flush()
        self.foreign += 100

    def _ask(self) -> None:
        for host in (self._sender, self._receiver):
            assert host.status()["state"] in ("running", "degraded")
            assert host.ctl("list").returncode == 0

    def _remove(self) -> None:
        name = self._sender.put("short lived", self._rng.randbytes(100_000))
        os.unlink(os.path.join(os.fsencode(self._sender.up), name))

    def _restart_broker(self) -> None:
        self._rng.choice([self._broker.stop, self._broker.kill])()
        self._broker.start()


def sizes_over(
    seconds: float, daemons: Sequence[Daemon], rng: random.Random, happens: Callable[[], None]
) -> list[Sizes]:
    """Look at these daemons all the time, while something happens every few seconds."""
    sizes = [Sizes(one) for one in daemons]
    started = time.monotonic()
    due = started
    while (now := time.monotonic()) < started + seconds:
        for one in sizes:
            one.look(now - started)
        if now >= due:
            happens()
            due = time.monotonic() + rng.uniform(1.0, 8.0)
        time.sleep(LOOK_SECONDS)  # the soak itself
    return sizes


def use_the_most(sender: Host, receiver: Host, broker: Broker, rng: random.Random) -> None:
    """Memory that was needed once is kept for the next time, and each time that the broker or a
    receiver is away needs some of it; so the most that there can be comes before all measuring: a
    full queue, and a backlog on all partitions."""
    assert receiver.ctl("pause").returncode == 0
    for number in range(400):
        sender.put(f"warm-up {number}", rng.randbytes(rng.randrange(400_000)))
    eventually(lambda: sender.arrived() >= 400)
    assert receiver.ctl("resume").returncode == 0
    broker.stop()
    sender.put("warm-up", rng.randbytes(96 * MIB))
    eventually(lambda: sender.status()["queue_bytes"] > 0.8 * sender.status()["queue_bytes_max"])
    broker.start()


@pytest.mark.fault(number=21, name="soak", rounds=10, short=0, minutes=True)
def test_hours_of_faults_leave_memory_and_descriptors_as_they_were(
    make_host: MakeHost, broker: Broker, topic: str, rounds: int, rng: random.Random,
    figures: Figures, full: bool,
) -> None:  # fmt: skip
    minutes = FULL_MINUTES if full else rounds
    sender = make_host("sender", receives=False, **CHUNKED)
    receiver = make_host("receiver", sends=False)
    third = make_host("third", sends=False, download={"group": f"{topic}-third"})
    for one in (sender, receiver, third):
        one.start()
    mischief = Mischief(sender, receiver, third, broker, topic, rng, figures)
    with Judge([sender], [receiver, third]) as judge:
        use_the_most(sender, receiver, broker, rng)
        with Writing(sender, rng, pause=0.1, names=200):
            sizes = sizes_over(60.0 * minutes, [sender, receiver], rng, mischief.happens)
        once = 2 * mischief.foreign  # by each receiver; by the killed one some again
        verdict = judge.holds(60, bad={"foreign": (once, 2 * once)})
    verdict.show(figures)
    figures.add("minutes", minutes)
    for name, one in zip(("sender", "receiver"), sizes, strict=True):
        figures.sample(f"MiB/h of the {name}", one.slope())
        figures.sample(f"MiB of the {name}", max(one.rss))
        figures.sample(f"descriptors of the {name}", max(one.descriptors))
    for one in sizes:
        assert one.grown() <= DESCRIPTORS
        assert one.slope() < SLOPE
