"""A clock that is set a year ahead or back, on either side: no hang, the next version wins."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.clock import YEAR, Clock
from tests.faults.evidence import arriving
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.support import eventually

CHUNK = 64 << 10
SLOW = {  # a file of some MiB is under way for a while
    "chunk_size": "64KiB",
    "queue": {"size": "1MiB"},
    "upload": {"rate_limit": "4MiB"},
}


def put_versions(host: Host, rng: random.Random, name: str) -> None:
    """Next versions of the same files, and files of this moment only."""
    for number in range(10):
        host.put(f"versions/{number}", rng.randbytes(rng.randrange(3 * CHUNK)))
        host.put(f"{name}/{number}", rng.randbytes(1000))


@pytest.mark.fault(number=19, name="clock-stepped", rounds=1, short=0)
@pytest.mark.parametrize("days", [YEAR, -YEAR], ids=["ahead", "back"])
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_next_version_wins_after_a_step_of_the_clock(
    make_host: MakeHost,
    make_topic: Callable[..., str],
    rounds: int,
    rng: random.Random,
    figures: Figures,
    side: str,
    days: int,
) -> None:
    """In the middle of a file; then killed and started under the wrong clock; then set right.

    On a topic as kfd makes them, whose times are the brokers'.
    """
    topic = make_topic(**{"message.timestamp.type": "LogAppendTime"})
    hosts = {
        "sender": make_host("sender", topic=topic, receives=False, **SLOW),
        "receiver": make_host("receiver", topic=topic, sends=False, pools=ONE_READER),
    }
    sender, receiver = hosts["sender"], hosts["receiver"]
    stepped, clock = hosts[side], Clock(hosts[side])
    for host in hosts.values():
        host.start()
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            for moment, step in (("before", 0), ("wrong", days), ("right", 0)):
                sender.put("large", rng.randbytes(3 << 20))
                eventually(lambda: arriving(receiver))
                clock.step(step)
                put_versions(sender, rng, moment)
                figures.sample("seconds until all was there", judge.all_published(60))
                stepped.kill9()
                put_versions(sender, rng, f"{moment}, killed")
                stepped.start()
                figures.sample("seconds until all was there", judge.all_published(60))
        judge.holds()
    figures.add("steps", 2 * rounds)


@pytest.mark.fault(number=19, name="clock-that-brokers-refuse")
def test_brokers_that_refuse_times_ahead_of_theirs(
    make_host: MakeHost, rng: random.Random, figures: Figures
) -> None:
    """On a topic that keeps its senders' times: nothing fails, it waits for the right time."""
    sender = make_host("sender", receives=False, chunk_size="64KiB")
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    clock = Clock(sender)
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        put_versions(sender, rng, "before")
        judge.all_published(60)
        clock.step(YEAR)
        put_versions(sender, rng, "wrong")
        eventually(lambda: "set this host's clock right" in fixes(sender))
        put_versions(sender, rng, "still wrong")
        assert sender.status()["state"] == "degraded"
        clock.step(0)
        # what changed meanwhile is aborted, though nothing of it had come
        verdict = judge.holds(bad={"orphan": (0, 1000)})
        eventually(lambda: sender.status()["state"] == "running")
    assert "failed" not in {state for _, state in sender.states("upload")}
    figures.sample("seconds after it was set right", verdict.seconds)


def fixes(host: Host) -> str:
    """What the status says is to be done."""
    return " ".join(problem["fix"] for problem in host.status()["problems"])


@pytest.mark.fault(number=19, name="clock-back-while-settling", short=0)
def test_file_that_has_to_settle_is_not_held_for_a_year(
    make_host: MakeHost, tmp_path: Path, rng: random.Random
) -> None:
    """It changed while ``kfdctl send`` sent it, so it is looked at again in some seconds, which
    are a year and some seconds by the clock that was set back."""
    sender = make_host("sender", receives=False, **SLOW)
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    clock = Clock(sender)
    sender.start()
    receiver.start()
    file = tmp_path / "run.trc"
    contents = [rng.randbytes(3 << 20), rng.randbytes(1 << 20)]
    sender.versions[b"run.trc"] = {digest(content) for content in contents}
    with Judge([sender], [receiver], wanted=lambda: {b"run.trc": digest(contents[1])}) as judge:
        file.write_bytes(contents[0])
        sending = subprocess.Popen(sender.ctl_command("send", file), stdout=subprocess.DEVNULL)
        eventually(lambda: arriving(receiver))
        file.write_bytes(contents[1])
        eventually(lambda: ("run.trc", "cancelled") in sender.states("upload"))
        clock.step(-YEAR)
        judge.all_published(30)
        assert sending.wait(30) == 0
        judge.holds()


@pytest.mark.fault(number=19, name="clock-stepped-often", rounds=60, short=0)
def test_clocks_that_jump_about(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """On both sides, by up to a year, while versions of the same files follow one another."""
    sender = make_host("sender", receives=False, chunk_size="64KiB")
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    clocks = [Clock(sender), Clock(receiver)]
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for number in range(rounds):
            rng.choice(clocks).step(rng.randrange(-YEAR, YEAR))
            put_versions(sender, rng, f"{number}")
            time.sleep(rng.uniform(0, 0.2))  # not a wait: the moment of the next step
        for clock in clocks:
            clock.step(0)
        # what changed while brokers refused it is aborted, though nothing of it had come
        verdict = judge.holds(deadline=60, bad={"orphan": (0, 1000)})
    figures.add("steps", rounds)
    figures.add("versions", verdict.versions)
