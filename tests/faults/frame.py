"""The frame of the fault tests: which fault runs how often, what it measured, the table of all.

A fault is a test with the marker ``fault(number, name, rounds, short)``. ``number`` is its family
(docs/guarantees.md lists them), ``name`` what ``scripts/faults --only`` takes, ``rounds`` how
often ``scripts/faults`` repeats it, ``short`` how often ``scripts/test`` does (0: not there);
``minutes=True`` if these are minutes instead.

Tests may run in several processes (pytest-xdist): what they measured goes with their reports to
the one that shows the table.
"""

from __future__ import annotations

import json
import statistics
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


def add_options(parser: pytest.Parser) -> None:
    """What ``scripts/faults`` gives to pytest; without any of these it is the short selection."""
    group = parser.getgroup("faults")
    group.addoption("--whole", action="store_true", help="every fault, with all its rounds")
    group.addoption("--full", action="store_true", help="likewise, and the soak for 2 hours")
    group.addoption("--only", action="append", default=[], help="faults of this name or number")
    group.addoption("--rounds", type=int, help="in place of each fault's own number")
    group.addoption("--seed", type=int, help="of all that is random (default: 1)")
    group.addoption("--list-faults", action="store_true", help="name them, and run nothing")
    group.addoption("--figures", type=Path, help="write what was measured there, as JSON")


@dataclass(frozen=True)
class Fault:
    """A marker's arguments."""

    number: int
    name: str
    rounds: int = 1
    short: int = 1
    minutes: bool = False  # it lasts so many, and begins first: others run beside it

    @classmethod
    def of(cls, item: pytest.Item) -> Fault | None:
        """What the test is marked as."""
        marker = item.get_closest_marker("fault")
        return cls(**marker.kwargs) if marker else None

    def is_called(self, names: Iterable[str]) -> bool:
        """Whether one of these, names or numbers, means this fault."""
        return bool({self.name, str(self.number)} & set(names))


@dataclass(frozen=True)
class Selection:
    """What of all faults is to run."""

    whole: bool = False
    full: bool = False
    only: tuple[str, ...] = ()
    given_rounds: int | None = None
    seed: int = 1

    @classmethod
    def of(cls, config: pytest.Config) -> Selection:
        """As the options say."""
        option = config.option
        return cls(
            whole=option.whole or option.full,
            full=option.full,
            only=tuple(option.only),
            given_rounds=option.rounds,
            seed=1 if option.seed is None else option.seed,
        )

    def rounds(self, fault: Fault) -> int:
        """How often; 0: not at all."""
        if self.only and not fault.is_called(self.only):
            return 0
        own = fault.rounds if self.whole else fault.short
        if self.given_rounds is not None and (own or self.only):
            return self.given_rounds
        return own

    def seed_of(self, test: str) -> int:
        """What a test's random choices come from: each has its own, the same in every run."""
        return zlib.crc32(f"{self.seed} {test}".encode())

    def again(self, fault: Fault) -> str:
        """The command that repeats it."""
        rounds = f" --rounds {self.rounds(fault)}"
        full = " --full" if self.full else ""
        return f"sh scripts/faults --only {fault.name}{rounds} --seed {self.seed}{full}"


@dataclass
class Figures:
    """What the tests of one fault measured, and whether all of them passed."""

    number: int
    name: str
    rounds: int = 0
    held: bool = True
    skipped: list[str] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, count: float = 1) -> None:
        """Count something: all of it is summed up."""
        self.sums[what] += count

    def sample(self, what: str, value: float) -> None:
        """Measure something; name the unit in ``what``. The median and the highest are shown."""
        self.samples[what].append(value)

    def note(self, text: str) -> None:
        """Say something that is no figure; once."""
        if text not in self.notes:
            self.notes.append(text)

    def skip(self, why: str) -> None:
        """Say why a test of it could not run here."""
        if why not in self.skipped:
            self.skipped.append(why)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take over what another test of the fault measured, as :meth:`as_json` gives it."""
        self.rounds += other["rounds"]
        self.held &= other["held"]
        for what, count in other["sums"].items():
            self.add(what, count)
        for what, values in other["samples"].items():
            self.samples[what] += values
        for text in other["notes"]:
            self.note(text)
        for why in other["skipped"]:
            self.skip(why)

    def seen(self) -> str:
        """All of it in one line."""
        return "; ".join(
            [
                *map(_sum, self.sums.items()),
                *map(_spread, self.samples.items()),
                *self.notes,
                *(f"skipped: {why}" for why in self.skipped),
            ]
        )

    def outcome(self) -> str:
        """Whether it held; a dash where nothing of it could run here."""
        if not self.held:
            return "**no**"
        return "yes" if self.rounds or not self.skipped else "-"

    def as_json(self) -> dict[str, Any]:
        """For ``--json``, and for another process."""
        return {
            "number": self.number,
            "fault": self.name,
            "rounds": self.rounds,
            "held": self.held,
            "skipped": self.skipped,
            "sums": dict(self.sums),
            "samples": dict(self.samples),
            "notes": self.notes,
        }


class Record:
    """The figures of all faults of this run."""

    def __init__(self) -> None:
        self._faults: dict[tuple[int, str], Figures] = {}

    def add(self, one: Mapping[str, Any]) -> None:
        """Those of one test, as :meth:`Figures.as_json` gives them."""
        key = (one["number"], one["fault"])
        self._faults.setdefault(key, Figures(*key)).merge(one)

    def table(self) -> str:
        """Markdown, as docs/guarantees.md has it."""
        rows = [("#", "fault", "rounds", "what was seen", "held")]
        rows += [("---:", "---", "---:", "---", "---")]
        rows += [
            (str(one.number), one.name, str(one.rounds), one.seen(), one.outcome())
            for one in self._in_order()
        ]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def save(self, file: Path, about: Mapping[str, Any]) -> None:
        """Write all of it as JSON, with what the run was."""
        faults = [one.as_json() for one in self._in_order()]
        file.write_text(json.dumps({**about, "faults": faults}, indent=2) + "\n")

    def __bool__(self) -> bool:
        return bool(self._faults)

    def _in_order(self) -> Iterator[Figures]:
        return (self._faults[key] for key in sorted(self._faults))


def catalogue(faults: Iterable[tuple[Fault, str]]) -> str:
    """What ``scripts/faults --list`` shows: each fault, its rounds, and its tests."""
    together: dict[tuple[int, str], list[tuple[Fault, str]]] = defaultdict(list)
    for fault, test in faults:
        together[fault.number, fault.name].append((fault, test))
    lines = [f"{'#':>2} {'NAME':<24} {'ROUNDS':>6} {'SHORT':>5} TEST"]
    for (number, name), found in sorted(together.items()):
        rounds = max(fault.rounds for fault, _ in found)
        short = max(fault.short for fault, _ in found)
        tests = ", ".join(dict.fromkeys(test for _, test in found))
        lines.append(f"{number:>2} {name:<24} {rounds:>6} {short:>5} {tests}")
    return "\n".join(lines)


def _sum(item: tuple[str, float]) -> str:
    what, count = item
    return f"{count:,.0f} {what}"


def _spread(item: tuple[str, list[float]]) -> str:
    what, values = item
    if len(values) == 1:
        return f"{what} {_number(values[0])}"
    return f"{what} {_number(statistics.median(values))}, at most {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"
