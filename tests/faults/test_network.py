"""A slow network whose connections break: all arrives, and little is sent again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker, new_topic, running_broker
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.proxy import Proxy, Weather
from tests.faults.writer import CHUNKED
from tests.integration.conftest import ONE_READER
from tests.integration.host import Host

MIB = 1 << 20
AGAIN = 1.5  # bytes that may go over the line for each that has to; a reset costs a fetch (4 MiB)
LATENCY = {
    # the proxy's delays are short, its breaks often: don't wait long before the next attempt
    "reconnect.backoff.max.ms": "500",
    "compression.type": "none",  # so that bytes on the line are bytes of files
}
STORMS = [
    # a long way: 20 ms and 256 KiB under way
    Weather(delay=0.02, window=256 << 10, reset_after=16 * MIB),
    # tiny windows
    Weather(delay=0.0005, window=8 << 10, reset_after=16 * MIB),
    # as fast as it can be between two breaks
    Weather(window=64 << 10, reset_after=16 * MIB),
]


@pytest.fixture
def proxy(rng: random.Random) -> Iterator[Proxy]:
    """At the address that the broker below advertises; fine weather."""
    with Proxy(rng) as made:
        yield made


@pytest.fixture
def far_broker(proxy: Proxy, tmp_path: Path) -> Iterator[Broker]:
    """One that clients reach through the proxy only."""
    with running_broker(tmp_path / "broker", advertise=proxy.port) as broker:
        proxy.forward_to(int(broker.bootstrap.rpartition(":")[2]))
        yield broker


@pytest.fixture
def far_topic(far_broker: Broker, proxy: Proxy) -> Iterator[str]:
    with new_topic(proxy.bootstrap) as name:
        yield name


@pytest.mark.fault(number=8, name="bad-network", rounds=6, short=1)
def test_all_arrives_and_little_is_sent_again(
    proxy: Proxy,
    far_topic: str,
    tmp_path: Path,
    rounds: int,
    rng: random.Random,
    whole: bool,
    figures: Figures,
) -> None:
    settings = {**CHUNKED, "pools": ONE_READER, "kafka": LATENCY}
    sender = Host(tmp_path / "sender", proxy.bootstrap, far_topic, receives=False, **settings)
    receiver = Host(tmp_path / "receiver", proxy.bootstrap, far_topic, sends=False, **settings)
    size = (48 if whole else 24) * MIB
    with sender, receiver, Judge([sender], [receiver]) as judge:
        sender.start()
        receiver.start()
        for number in range(rounds):
            proxy.weather = STORMS[(number - rounds) % len(STORMS)]
            up, down = proxy.up, proxy.down
            _put(sender, rng, size, f"{number}")
            figures.sample("seconds a round", judge.all_published(180))
            sender.sent(len(sender.versions))
            for way, count in (("up", proxy.up - up), ("down", proxy.down - down)):
                figures.sample(f"bytes {way} for each to be moved", count / size)
                assert count <= AGAIN * size
        proxy.weather = Weather()
        figures.add("files", judge.holds().files)
    figures.add("resets", proxy.resets)
    assert proxy.resets


def _put(sender: Host, rng: random.Random, size: int, prefix: str) -> None:
    """A large file, some of a few records, and some small ones: ``size`` bytes in all."""
    sender.put(f"{prefix}/large", rng.randbytes(size // 2))
    for number in range(8):
        sender.put(f"{prefix}/middle {number}", rng.randbytes(size // 20))
    for number in range(100):
        sender.put(f"{prefix}/small {number}", rng.randbytes(size // 1000))
