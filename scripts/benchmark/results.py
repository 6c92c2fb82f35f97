"""What was measured, as it is kept in a JSON file, and the figures that follow from it."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a piece of work. ``target`` is what kfd is to reach, in words."""

    name: str
    title: str
    unit: str
    target: str = ""
    less_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """What one side did in one round: values by metric, and what its processes used."""

    round: int
    work: str
    side: str
    values: Mapping[str, float]
    processes: Mapping[str, Mapping[str, float]]  # name -> rss_mb, cpu_seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """The values of one side over all rounds; the spread is from ``low`` to ``high``."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Summary:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def apart_from(self, other: Summary) -> bool:
        """Whether the two spreads have nothing in common."""
        return self.low > other.high or self.high < other.low


@dataclass(frozen=True, slots=True)
class Results:
    """A run of the benchmark."""

    date: str  # ISO 8601, UTC
    quick: bool
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    metrics: list[Metric] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How many there were."""
        return max((sample.round for sample in self.samples), default=0)

    def values(self, metric: str, side: str) -> dict[int, float]:
        """Round → value."""
        return {
            sample.round: sample.values[metric]
            for sample in self.samples
            if sample.side == side and metric in sample.values
        }

    def summary(self, metric: str, side: str) -> Summary | None:
        """None for a side that didn't take part."""
        values = list(self.values(metric, side).values())
        return Summary.of(values) if values else None

    def ratio(self, metric: str, side: str) -> float | None:
        """kfd's value to another side's: the median of each round's, since rounds drift."""
        ours, theirs = self.values(metric, "kfd"), self.values(metric, side)
        ratios = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys()]
        return statistics.median(ratios) if ratios else None

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        document = {"format": FORMAT, **dataclasses.asdict(self)}
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> Results:
    """Read what :meth:`Results.save` wrote. Raises ValueError for anything else."""
    try:
        document = json.loads(path.read_text())
        if document.pop("format") != FORMAT:
            raise ValueError("another format")
        metrics = [Metric(**one) for one in document.pop("metrics")]
        samples = [Sample(**one) for one in document.pop("samples")]
        return Results(**document, metrics=metrics, samples=samples)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no results of scripts/bench: {error}") from error
