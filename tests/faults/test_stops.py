"""Ends under load: quit, SIGTERM, a second signal, and a kill while it drains."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest

from tests.faults.frame import Figures
from tests.faults.judge import Judge, accepted
from tests.faults.writer import CHUNKED, load
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host

STOP_SECONDS = 35.0  # SIGTERM to the end, whatever is in flight
ALL_THERE = 60.0


def under_load(make_host: MakeHost) -> Host:
    """A host that sends to itself, both halves under load."""
    return make_host(pools=ONE_READER, **CHUNKED)


def at_any_moment(host: Host, rng: random.Random, round_: int) -> None:
    """Start it with new work before it, and let it come to any place in that."""
    load(host, rng, f"round {round_ % 10}", 40, 2)
    host.start()
    load(host, rng, f"more {round_ % 10}", 20, 1)
    time.sleep(rng.uniform(0.0, 0.5))  # the moment of the end


def ended_in_time(host: Host, figures: Figures, since: float, *, status: tuple[int, ...]) -> None:
    """Wait for its end; in time, and with one of these exit statuses."""
    assert host.wait(since + STOP_SECONDS - time.monotonic()) in status, host.log()
    figures.sample("seconds to the end", time.monotonic() - since)


def published_after_all(host: Host, judge: Judge, figures: Figures) -> None:
    """What was left to the next start comes now."""
    host.start()
    judge.holds(ALL_THERE).show(figures)


@pytest.mark.fault(number=18, name="quit", rounds=50, short=3)
def test_quit_under_load_finishes_what_was_accepted(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    host = under_load(make_host)
    with Judge([host], [host]) as judge:
        for round_ in range(rounds):
            at_any_moment(host, rng, round_)
            since = time.monotonic()
            done = host.ctl("quit", deadline=STOP_SECONDS)
            assert done.returncode == 0, done.stderr
            ended_in_time(host, figures, since, status=(0,))
            unfinished = [tid.hex() for tid, s in accepted(host) if s in ("queued", "sending")]
            assert not unfinished
        published_after_all(host, judge, figures)


@pytest.mark.fault(number=18, name="sigterm", rounds=20, short=1)
def test_sigterm_under_load_ends_in_time_and_goes_on_later(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    host = under_load(make_host)
    with Judge([host], [host]) as judge:
        for round_ in range(rounds):
            at_any_moment(host, rng, round_)
            since = time.monotonic()
            send(host, signal.SIGTERM)
            ended_in_time(host, figures, since, status=(0,))
        published_after_all(host, judge, figures)


@pytest.mark.fault(number=18, name="second-signal", rounds=20, short=1)
def test_second_signal_ends_at_once_and_loses_nothing(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    host = under_load(make_host)
    with Judge([host], [host]) as judge:
        for round_ in range(rounds):
            at_any_moment(host, rng, round_)
            send(host, signal.SIGTERM)
            time.sleep(rng.uniform(0.0, 0.1))  # as impatient as people are
            since = time.monotonic()
            send(host, signal.SIGTERM)
            # 0: it had just ended by itself; -15: so late that Python itself was ending
            ended_in_time(host, figures, since, status=(0, 130, 143, -signal.SIGTERM))
        published_after_all(host, judge, figures)


@pytest.mark.fault(number=18, name="killed-draining", rounds=20, short=1)
def test_killed_while_it_drains_loses_and_repeats_nothing(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    host = under_load(make_host)
    with Judge([host], [host]) as judge:
        for round_ in range(rounds):
            at_any_moment(host, rng, round_)
            load(host, rng, f"late {round_ % 10}", 0, 4)
            with subprocess.Popen(host.ctl_command("quit"), stdout=subprocess.PIPE) as quitting:
                assert quitting.stdout is not None
                assert quitting.stdout.read(1)  # it says first what is left to do
                time.sleep(rng.uniform(0.0, 0.3))  # the moment of the kill
                host.kill9()
            figures.add("kills")
        published_after_all(host, judge, figures)


def send(host: Host, number: signal.Signals) -> None:
    """A signal to the daemon."""
    assert host.process is not None
    host.process.send_signal(number)
