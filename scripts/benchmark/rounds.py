"""The rounds: in each one every side does every piece of work, so that all meet the same noise."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Sequence

from confluent_kafka import KafkaException

from kfd.errors import KfdError
from scripts.benchmark.process import BenchmarkError
from scripts.benchmark.report import SIDES, number
from scripts.benchmark.results import Sample
from scripts.benchmark.works import Outcome, Work

FAILURES = (BenchmarkError, KfdError, KafkaException, OSError, subprocess.SubprocessError)


def choose(all_works: Sequence[Work], names: Sequence[str] | None) -> list[Work]:
    """The works of these names, or all. Raises :class:`BenchmarkError` for an unknown one."""
    known = {work.name: work for work in all_works}
    for name in names or ():
        if name not in known:
            raise BenchmarkError(f"no work is called {name}; there are {', '.join(known)}")
    return [work for work in all_works if names is None or work.name in names]


def warm_up(works: Sequence[Work]) -> None:
    """Let the plain loops do their work once, for nothing: the broker's JVM gets warm."""
    for work in works:
        if "plain" in work.sides:
            _say(f"warm-up: {work.name}")
            work.sides["plain"]()


def measure(works: Sequence[Work], rounds: int, samples: list[Sample]) -> bool:
    """Add all samples; whether none is missing. What fails is told, and the rest goes on."""
    complete = True
    for number_ in range(1, rounds + 1):
        for work in works if number_ == 1 else [one for one in works if not one.once]:
            for side in _rotated(list(work.sides), number_):
                try:
                    samples.append(_sample(number_, work, side))
                except FAILURES as error:
                    complete = False
                    _say(f"{work.name}, {SIDES[side]}: {error}")
    return complete


def _sample(round_: int, work: Work, side: str) -> Sample:
    began = time.monotonic()
    outcome = work.sides[side]()
    took = time.monotonic() - began
    _say(f"round {round_}: {work.name}, {SIDES[side]}: {_figures(work, outcome)} [{took:.0f} s]")
    processes = {name: dataclasses.asdict(used) for name, used in outcome.processes.items()}
    return Sample(round_, work.name, side, outcome.values, processes)


def _figures(work: Work, outcome: Outcome) -> str:
    return ", ".join(f"{number(outcome.values[one.name])} {one.unit}" for one in work.metrics)


def _rotated(sides: list[str], by: int) -> list[str]:
    """Another one begins each round."""
    by %= len(sides)
    return sides[by:] + sides[:by]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
