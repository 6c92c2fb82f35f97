"""Ends under load: quit, SIGTERM, a second signal, and a kill while it drains."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.faults.frame import Figures
from tests.faults.judge import Judge, accepted
from tests.faults.writer import CHUNKED, load
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host

STOP_SECONDS = 35.0  # SIGTERM to the end, whatever is in flight
ALL_THERE = 60.0

End = Callable[[Host], None]
"""Lets a host end; returns when it has."""


@pytest.fixture
def ends_under_load(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> Callable[[End], None]:
    """Let a host that sends to itself end so again and again, amid the work of both its halves.

    What was left undone comes when it is started for the last time.
    """

    def each_time(end: End) -> None:
        host = make_host(pools=ONE_READER, **CHUNKED)
        with Judge([host], [host]) as judge:
            for round_ in range(rounds):
                load(host, rng, f"round {round_ % 10}", 40, 2)
                host.start()
                load(host, rng, f"more {round_ % 10}", 20, 1)
                time.sleep(rng.uniform(0.0, 0.5))  # the moment of the end
                end(host)
            host.start()
            judge.holds(ALL_THERE).show(figures)

    return each_time


def ended_in_time(host: Host, figures: Figures, since: float, *, status: tuple[int, ...]) -> None:
    """Wait for its end; in time, and with one of these exit statuses."""
    assert host.wait(since + STOP_SECONDS - time.monotonic()) in status, host.log()
    figures.sample("seconds to the end", time.monotonic() - since)


def terminate(host: Host) -> float:
    """Send SIGTERM; when that was, by the monotonic clock."""
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    return time.monotonic()


@pytest.mark.fault(number=18, name="quit", rounds=50, short=2)
def test_quit_under_load_finishes_what_was_accepted(
    ends_under_load: Callable[[End], None], figures: Figures
) -> None:
    def quit_(host: Host) -> None:
        since = time.monotonic()
        done = host.ctl("quit", deadline=STOP_SECONDS)
        assert done.returncode == 0, done.stderr
        ended_in_time(host, figures, since, status=(0,))
        unfinished = [tid.hex() for tid, s in accepted(host) if s in ("queued", "sending")]
        assert not unfinished

    ends_under_load(quit_)


@pytest.mark.fault(number=18, name="sigterm", rounds=20, short=1)
def test_sigterm_under_load_ends_in_time_and_goes_on_later(
    ends_under_load: Callable[[End], None], figures: Figures
) -> None:
    ends_under_load(lambda host: ended_in_time(host, figures, terminate(host), status=(0,)))


@pytest.mark.fault(number=18, name="second-signal", rounds=20, short=1)
def test_second_signal_ends_at_once_and_loses_nothing(
    ends_under_load: Callable[[End], None], rng: random.Random, figures: Figures
) -> None:
    def signal_twice(host: Host) -> None:
        terminate(host)
        time.sleep(rng.uniform(0.0, 0.1))  # as impatient as people are
        # 0: it had just ended by itself; -15: so late that Python itself was ending
        ended_in_time(host, figures, terminate(host), status=(0, 130, 143, -signal.SIGTERM))

    ends_under_load(signal_twice)


@pytest.mark.fault(number=18, name="killed-draining", rounds=20, short=1)
def test_killed_while_it_drains_loses_and_repeats_nothing(
    ends_under_load: Callable[[End], None], rng: random.Random, figures: Figures
) -> None:
    def kill_while_it_drains(host: Host) -> None:
        load(host, rng, f"late {rng.randrange(10)}", 0, 4)
        with subprocess.Popen(host.ctl_command("quit"), stdout=subprocess.PIPE) as quitting:
            assert quitting.stdout is not None
            assert quitting.stdout.read(1)  # it says first what is left to do
            time.sleep(rng.uniform(0.0, 0.3))  # the moment of the kill
            host.kill9()
        figures.add("kills")

    ends_under_load(kill_while_it_drains)
