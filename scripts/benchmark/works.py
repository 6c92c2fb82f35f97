"""What is measured: the pieces of work, how much of each, and who does it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scripts.benchmark.daemon import Kfd
from scripts.benchmark.data import Files
from scripts.benchmark.peer import Peer
from scripts.benchmark.plain import Plain
from scripts.benchmark.process import Usage
from scripts.benchmark.results import Metric
from scripts.benchmark.side import Side

KIB, MIB = 1 << 10, 1 << 20
CHUNK = 512 * KIB  # kfd's default


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each piece of work."""

    one_size: int = 1024 * MIB
    large: int = 64  # files of 16 MiB
    small: int = 10_000  # files of 20 kB
    small_of_peer: int = 1_000
    latencies: int = 200
    latencies_of_peer: int = 20
    runs: int = 10  # of kfdctl

    @property
    def space(self) -> int:
        """Bytes of disk that it takes: the files, what is published, and two topics at a time."""
        return 5 * (self.one_size + self.large * 16 * MIB + self.small * 20_000)


FULL = Scale()
QUICK = Scale(96 * MIB, 6, 1_000, 100, 20, 2, 3)


@dataclass(frozen=True, slots=True)
class Data:
    """The files of a scale."""

    one: Files
    large: Files
    small: Files

    @classmethod
    def of(cls, scale: Scale, directory: Path) -> Data:
        """Where they are; :meth:`make` writes them."""
        return cls(
            Files(directory / f"1x{scale.one_size}", 1, scale.one_size),
            Files(directory / "16MiB", scale.large, 16 * MIB),
            Files(directory / "20kB", scale.small, 20_000),
        )

    def make(self) -> None:
        """Write all that aren't there."""
        for files in (self.one, self.large, self.small):
            files.make()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One side's figures for one piece of work, by metric, and what its processes used."""

    values: Mapping[str, float]
    processes: Mapping[str, Usage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work: who can do it, and its metrics. ``once``: one round says it all."""

    name: str
    sides: Mapping[str, Callable[[], Outcome]]
    metrics: tuple[Metric, ...]
    once: bool = False


def works(scale: Scale, data: Data, sides: Mapping[str, Side]) -> list[Work]:
    """All of them, for the sides that take part; ``sides`` has at least kfd."""
    kfd = sides["kfd"]
    assert isinstance(kfd, Kfd)
    return [
        _upload("upload-512k", data.one, CHUNK, sides, "≥ 0.9 of the loop"),
        _upload("upload-16k", data.one, 16 * KIB, sides, "≥ 0.7 of the loop, ≥ 6 of the peer"),
        _upload_small(scale, data.small, sides),
        _publish_large(data.large, sides),
        _publish_small(scale, data.small, sides),
        _latency(scale, sides),
        *([_waiting(kfd, data.small)] if kfd.may_stop_broker else []),
        _kfdctl(kfd, scale.runs),
    ]


def _upload(
    name: str, files: Files, chunk_size: int, sides: Mapping[str, Side], target: str
) -> Work:
    title = f"{files.size // MIB} MiB in chunks of {chunk_size // KIB} KiB, into Kafka"

    def measure(side: Side) -> Outcome:
        timing = side.upload(files, chunk_size)
        return Outcome({name: files.total / 1e6 / timing.seconds}, timing.processes)

    return Work(name, _each(sides, measure), (Metric(name, title, "MB/s", target),))


def _upload_small(scale: Scale, files: Files, sides: Mapping[str, Side]) -> Work:
    name = "upload-small"

    def measure(side: Side) -> Outcome:
        some = _share(side, scale, files)
        timing = side.upload(some, CHUNK)
        return Outcome({name: some.count / timing.seconds}, timing.processes)

    title = f"{_small_title(scale, sides)}, into Kafka"
    return Work(name, _each(sides, measure), (Metric(name, title, "files/s", "≥ 4,000 files/s"),))


def _publish_large(files: Files, sides: Mapping[str, Side]) -> Work:
    name = "publish-large"

    def measure(side: Side) -> Outcome:
        timing = side.publish(files)
        return Outcome({name: files.total / 1e6 / timing.seconds}, timing.processes)

    title = f"{files.count} x {files.size // MIB} MiB, published"
    return Work(name, _each(sides, measure), (Metric(name, title, "MB/s", "≥ 0.9 of the loop"),))


def _publish_small(scale: Scale, files: Files, sides: Mapping[str, Side]) -> Work:
    name = "publish-small"

    def measure(side: Side) -> Outcome:
        some = _share(side, scale, files)
        timing = side.publish(some)
        return Outcome({name: some.count / timing.seconds}, timing.processes)

    title = f"{_small_title(scale, sides)}, published"
    return Work(name, _each(sides, measure), (Metric(name, title, "files/s", "≥ 2,000 files/s"),))


def _latency(scale: Scale, sides: Mapping[str, Side]) -> Work:
    def measure(side: Side) -> Outcome:
        assert isinstance(side, Kfd | Peer)
        count = scale.latencies_of_peer if isinstance(side, Peer) else scale.latencies
        seconds, processes = side.latency(count)
        percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
        values = {"latency-p50": percentiles[49] * 1e3, "latency-p99": percentiles[98] * 1e3}
        return Outcome(values, processes)

    able = {name: side for name, side in sides.items() if not isinstance(side, Plain)}
    peer = f" (the peer: {scale.latencies_of_peer})" if "peer" in sides else ""
    title = f"{scale.latencies} x 1 MiB{peer}, closed to published"
    metrics = (
        Metric("latency-p50", f"{title}, p50", "ms", "≤ 50 ms", less_is_better=True),
        Metric("latency-p99", f"{title}, p99", "ms", "≤ 250 ms", less_is_better=True),
    )
    return Work("latency", _each(able, measure), metrics)


def _waiting(kfd: Kfd, files: Files) -> Work:
    name = "waiting"

    def measure() -> Outcome:
        used = kfd.waiting(files)
        return Outcome({name: used.rss_mb}, {"kfd": used})

    title = f"peak memory, broker away, {files.count:,} files waiting"
    metric = Metric(name, title, "MB", "≤ 200 MB", less_is_better=True)
    return Work(name, {"kfd": measure}, (metric,), once=True)


def _kfdctl(kfd: Kfd, runs: int) -> Work:
    def measure() -> Outcome:
        return Outcome(
            {
                "kfdctl-status": kfd.kfdctl(["status"], runs) * 1e3,
                "kfdctl-help": kfd.kfdctl(["--help"], runs) * 1e3,
            }
        )

    metrics = (
        Metric("kfdctl-status", "kfdctl status, whole process", "ms", "≤ 200 ms", True),
        Metric("kfdctl-help", "kfdctl --help, whole process", "ms", "≤ 200 ms", True),
    )
    return Work("kfdctl", {"kfd": measure}, metrics)


def _each(
    sides: Mapping[str, Side], measure: Callable[[Side], Outcome]
) -> dict[str, Callable[[], Outcome]]:
    return {name: partial(measure, side) for name, side in sides.items()}


def _share(side: Side, scale: Scale, files: Files) -> Files:
    return files.first(scale.small_of_peer) if isinstance(side, Peer) else files


def _small_title(scale: Scale, sides: Mapping[str, Side]) -> str:
    peer = f" (the peer: {scale.small_of_peer:,})" if "peer" in sides else ""
    return f"{scale.small:,} x 20 kB{peer}"
