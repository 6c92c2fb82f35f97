"""kill -9 at random moments: of the sender, of the receiver, of both and the broker."""

from __future__ import annotations

import random
import time

import pytest

from tests.broker import Broker
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.writer import CHUNKED, Writing, load
from tests.integration.conftest import MakeHost
from tests.integration.host import Host

WORKS_AGAIN = 10.0  # seconds after a start in which a new file is at the other side
ALL_THERE = 60.0  # seconds after the last fault
MEASURED = 5  # every so many rounds a new file is waited for


def live_and_die(host: Host, rng: random.Random) -> None:
    """Start it and kill it at any moment: while it starts, or in the middle of its work."""
    host.spawn()
    time.sleep(rng.uniform(0.0, 2.0))  # not a wait for anything: the kill's moment
    host.kill9()


def works_again(started: float, sender: Host, receiver: Host, probe: str) -> float:
    """Put a file and wait until it is published; the seconds since the start."""
    sender.put(probe, probe.encode())
    receiver.receives(probe, deadline=started + WORKS_AGAIN - time.monotonic())
    return time.monotonic() - started


def killed_again_and_again(
    victim: Host, sender: Host, receiver: Host, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Each round ends with a kill; in some it is seen first that all goes on."""
    for round_ in range(rounds):
        load(sender, rng, f"round {round_ % 10}", 20, 1 if round_ % 4 == 0 else 0)
        live_and_die(victim, rng)
        figures.add("kills")
        if round_ % MEASURED == MEASURED - 1:
            started = time.monotonic()
            victim.start()
            seconds = works_again(started, sender, receiver, f"probe {round_}")
            figures.sample("seconds until it works again", seconds)
            victim.kill9()
            figures.add("kills")
    victim.start()


@pytest.mark.fault(number=1, name="sender-killed", rounds=100, short=3)
def test_sender_killed_at_any_moment_loses_and_repeats_nothing(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    sender = make_host("sender", receives=False, **CHUNKED)
    receiver = make_host("receiver", sends=False)
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        killed_again_and_again(sender, sender, receiver, rounds, rng, figures)
        verdict = judge.holds(ALL_THERE)
    verdict.show(figures)


@pytest.mark.fault(number=2, name="receiver-killed", rounds=100, short=3)
def test_receiver_killed_at_any_moment_loses_and_repeats_nothing(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    sender = make_host("sender", receives=False, **CHUNKED)
    receiver = make_host("receiver", sends=False)
    sender.start()
    with Judge([sender], [receiver]) as judge:
        killed_again_and_again(receiver, sender, receiver, rounds, rng, figures)
        verdict = judge.holds(ALL_THERE)
        receiver.clean()
    verdict.show(figures)


@pytest.mark.fault(number=3, name="all-killed", rounds=30, short=1)
def test_both_sides_and_the_broker_killed_lose_and_repeat_nothing(
    make_host: MakeHost, broker: Broker, rounds: int, rng: random.Random, figures: Figures
) -> None:
    sender = make_host("sender", receives=False, **CHUNKED)
    receiver = make_host("receiver", sends=False)
    victims = {"sender": sender.kill9, "receiver": receiver.kill9, "broker": broker.kill}
    with Judge([sender], [receiver]) as judge:
        with Writing(sender, rng, names=300):
            for _ in range(rounds):
                sender.start()
                receiver.start()
                time.sleep(rng.uniform(0.0, 1.0))  # the moment of the first kill
                for name in rng.sample(sorted(victims), len(victims)):
                    victims[name]()
                    figures.add("kills")
                    time.sleep(rng.uniform(0.0, 0.3))  # in which the others notice it
                broker.start()
            started = time.monotonic()
            sender.start()
            receiver.start()
            seconds = works_again(started, sender, receiver, "probe")
        figures.sample("seconds until it works again", seconds)
        verdict = judge.holds(ALL_THERE)
    verdict.show(figures)
