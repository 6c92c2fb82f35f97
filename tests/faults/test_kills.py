"""kill -9 at random moments: of the sender, of the receiver, of both and the broker."""

from __future__ import annotations

import random
import time

import pytest

from tests.broker import Broker
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.writer import CHUNKED, Writing
from tests.integration.conftest import MakeHost
from tests.integration.host import Host

LIFE = 1.5  # seconds at most: while it starts, or in the middle of its work
WORKS_AGAIN = 10.0  # seconds after a start in which a new file is at the other side
ALL_THERE = 60.0  # seconds after the last fault
MEASURED = 5  # every so many rounds a new file is waited for


@pytest.fixture
def sender(make_host: MakeHost) -> Host:
    """Not running."""
    return make_host("sender", receives=False, **CHUNKED)


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """Not running."""
    return make_host("receiver", sends=False)


def works_again(sender: Host, receiver: Host, probe: str, figures: Figures) -> None:
    """Start what doesn't run, put a file, and wait until it is published."""
    started = time.monotonic()
    for one in (sender, receiver):
        if not one.running:
            one.start()
    sender.put(probe, probe.encode())
    receiver.receives(probe, deadline=started + WORKS_AGAIN - time.monotonic())
    figures.sample("seconds until it works again", time.monotonic() - started)


SIDES = [
    pytest.param(side, marks=pytest.mark.fault(number=number, name=name, rounds=100, short=2))
    for number, side, name in [(1, "sender", "sender-killed"), (2, "receiver", "receiver-killed")]
]


@pytest.mark.parametrize("side", SIDES)
def test_side_killed_at_any_moment_loses_and_repeats_nothing(
    sender: Host, receiver: Host, side: str, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Each round ends with a kill; after some it is seen first that all goes on."""
    victim = {"sender": sender, "receiver": receiver}[side]
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        with Writing(sender, rng, pause=0.01, names=300):
            for round_ in range(rounds):
                time.sleep(rng.uniform(0.0, LIFE))  # not a wait for anything: the kill's moment
                victim.kill9()
                figures.add("kills")
                if round_ % MEASURED:
                    victim.spawn()
                else:
                    works_again(sender, receiver, f"probe {round_}", figures)
        verdict = judge.holds(ALL_THERE)
        receiver.clean()
    verdict.show(figures)


@pytest.mark.fault(number=3, name="all-killed", rounds=30, short=1)
def test_both_sides_and_the_broker_killed_lose_and_repeat_nothing(
    sender: Host,
    receiver: Host,
    broker: Broker,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    victims = {"sender": sender.kill9, "receiver": receiver.kill9, "broker": broker.kill}
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        with Writing(sender, rng, names=300):
            for round_ in range(rounds):
                time.sleep(rng.uniform(0.0, LIFE))  # the moment of the first kill
                for name in rng.sample(sorted(victims), len(victims)):
                    victims[name]()
                    figures.add("kills")
                    time.sleep(rng.uniform(0.0, 0.3))  # in which the others notice it
                broker.start()
                works_again(sender, receiver, f"probe {round_}", figures)
        verdict = judge.holds(ALL_THERE)
    verdict.show(figures)
