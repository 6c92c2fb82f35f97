"""How fast files go from kfd to openmsistream's programs, and from these to kfd. A program:

    KFD_PEER=.venv-peer python -m scripts.benchmark.crossing [--rounds N] [--work DIR]

A large file and many small ones, in chunks of 512 KiB, each time over a new topic of 8 partitions;
whoever receives is waiting already. The clock runs from when the sender has the files. Medians, and
the lowest and the highest round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.daemon import Receiver, Sender
from scripts.benchmark.data import Files, need_space
from scripts.benchmark.kafka import CHECKOUT
from scripts.benchmark.peer import Peer
from scripts.benchmark.plain import PUBLISHED_CHUNK, check_published
from scripts.benchmark.process import wait_for
from scripts.benchmark.rounds import FAILURES
from scripts.benchmark.side import Site, workplace

FORMAT = "openmsistream"
LARGE, SMALL = (1, 200_000_000), (1_000, 20_000)  # files, and bytes of each
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Crossing:
    """Seconds until all records were in Kafka, and until all files were at the other side."""

    into_kafka: float
    across: float


def to_peer(site: Site, peer: Peer, files: Files) -> Crossing:
    """kfd sends, DataFileDownloadDirectory puts together."""
    bootstrap = site.broker.bootstrap
    with site.home() as home, site.broker.topic() as topic, peer.receiver(home, topic):
        output = home / "output"
        with Sender(home, bootstrap, topic, wire=FORMAT) as sender:
            wait_for("the peer to receive", (output / "first").exists)
            began = sender.take(files)
            sent = sender.wait_in_kafka(files.count)
            wait_for(
                "all files at the peer",
                lambda: not files.missing_in(output / "files"),
                LOOK_SECONDS,
            )
            return Crossing(sent - began, time.time() - began)


def from_peer(site: Site, peer: Peer, files: Files) -> Crossing:
    """UploadDataFile or DataFileUploadDirectory sends, kfd publishes."""
    records = files.count * -(-files.size // PUBLISHED_CHUNK)
    with (
        site.home() as home,
        site.broker.topic() as topic,
        Receiver(home, site, topic, wire=FORMAT) as receiver,
        peer.sender(home, topic, files, PUBLISHED_CHUNK) as (_, began),
    ):
        wait_for("the peer to send", lambda: site.broker.records(topic) >= records, LOOK_SECONDS)
        sent = time.time()
        published = receiver.wait_published(files.count)
        check_published(files, receiver.published)
        return Crossing(sent - began, published - began)


def main() -> None:
    """Measure both directions, in turn."""
    options = _options()
    try:
        _run(options.rounds, options.work.resolve())
    except (*FAILURES, ValueError) as error:
        sys.exit(f"scripts.benchmark.crossing: {error}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark.crossing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=CHECKOUT / ".kfd-bench")
    return parser.parse_args()


def _run(rounds: int, directory: Path) -> None:
    found: dict[tuple[str, Files], list[Crossing]] = defaultdict(list)
    directions: dict[str, Callable[[Site, Peer, Files], Crossing]] = {
        "kfd -> openmsistream": to_peer,
        "openmsistream -> kfd": from_peer,
    }
    with workplace(directory) as site:
        works = [
            Files(directory / "data" / f"{count}x{size}", count, size)
            for count, size in (LARGE, SMALL)
        ]
        need_space(directory, 5 * sum(files.total for files in works))
        for files in works:
            files.make()
        with site.broker:
            peer = Peer(site)
            for _ in range(rounds):
                for files in works:
                    for name, cross in directions.items():
                        found[name, files].append(cross(site, peer, files))
    for (name, files), crossings in found.items():
        print(_line(name, files, crossings))


def _line(name: str, files: Files, crossings: list[Crossing]) -> str:
    unit, amount = ("MB/s", files.total / 1e6) if files.count == 1 else ("files/s", files.count)
    into = _rates(amount, [one.into_kafka for one in crossings])
    across = _rates(amount, [one.across for one in crossings])
    what = f"{files.count:,} x {files.size:,} bytes"
    return f"{name}, {what}: into Kafka {into}, at the other side {across} {unit}"


def _rates(amount: float, seconds: list[float]) -> str:
    rates = sorted(amount / one for one in seconds)
    return f"{statistics.median(rates):,.1f} ({rates[0]:,.1f} to {rates[-1]:,.1f})"


if __name__ == "__main__":
    main()
