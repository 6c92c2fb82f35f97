"""The results as Markdown tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator

from scripts.benchmark.results import Metric, Results, Summary

SIDES = {"kfd": "kfd", "plain": "plain loop", "peer": "openmsistream"}


def report(results: Results) -> str:
    """All that is to be printed after a run."""
    sections = [_heading(results), _figures(results), _processes(results)]
    return "\n\n".join("\n".join(lines) for lines in sections)


def number(value: float) -> str:
    """With as many digits as mean something: ``1,234``, ``12.3``, ``0.87``."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(summary: Summary | None) -> str:
    """``412 (398 to 431)``; a dash where there is nothing."""
    if summary is None:
        return "-"
    if summary.low == summary.high:
        return number(summary.median)
    return f"{number(summary.median)} ({number(summary.low)} to {number(summary.high)})"


def _heading(results: Results) -> Iterator[str]:
    machine = ", ".join(str(value) for value in results.machine.values())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield f"{results.date}{', --quick' if results.quick else ''}; {machine}; {versions}."
    yield "Medians of the rounds (lowest to highest); ratios are medians of each round's."


def _figures(results: Results) -> Iterator[str]:
    yield from _row("work", "unit", *SIDES.values(), "kfd : loop", "kfd : peer", "wanted")
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for metric in results.metrics:
        yield from _row(*_cells(results, metric))


def _cells(results: Results, metric: Metric) -> Iterator[str]:
    yield metric.title
    yield metric.unit
    for side in SIDES:
        yield spread(results.summary(metric.name, side))
    for side in ("plain", "peer"):
        ratio = results.ratio(metric.name, side)
        yield "-" if ratio is None else number(ratio)
    yield metric.target


def _processes(results: Results) -> Iterator[str]:
    """What each process used: the highest peak of all rounds, the median of processor time."""
    peaks: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    seconds: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for sample in results.samples:
        for process, used in sample.processes.items():
            key = (sample.work, SIDES[sample.side], process)
            peaks[key].append(used["rss_mb"])
            seconds[key].append(used["cpu_seconds"])
    yield from _row("work", "side", "process", "peak memory, MB", "processor, s")
    yield "| --- | --- | --- | ---: | ---: |"
    for key, values in peaks.items():
        yield from _row(*key, number(max(values)), number(statistics.median(seconds[key])))


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
