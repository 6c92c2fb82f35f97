"""The verdict of every fault test: nothing lost, nothing twice, nothing half, nothing silent.

It knows by itself what was put where it is sent from (``Host.versions``), saw all the time what
appeared (:class:`Arrivals`), and at the end holds what the ledgers say against both.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from tests.faults.arrivals import Arrivals
from tests.faults.frame import Figures
from tests.integration.host import Host
from tests.support import eventually

Allowed = Mapping[str, tuple[int, int]]
"""How many bad records of each reason there may be: at least, at most."""

NOTED_SECONDS = 10.0  # in which the ledger has it, too
SAID_THERE = ("in_kafka", "delivered")


@dataclass(frozen=True)
class Verdict:
    """What there was to judge."""

    files: int  # names that are published at the end
    versions: int  # contents that ever were put under these names
    arrivals: int  # times that a name appeared, or was replaced, on any receiver
    seconds: float  # it took until all was there

    def show(self, figures: Figures) -> None:
        """Put it among what a fault's tests have measured."""
        figures.add("files", self.files)
        figures.add("versions", self.versions)
        figures.add("arrivals", self.arrivals)
        figures.sample("seconds until all was there", self.seconds)


def same_name(path: bytes) -> bytes:
    """The source's path of what is published under ``path``: the same, by the layout of Host."""
    return path


class Judge:
    """Watches the receivers from entering on; ``holds`` gives the verdict.

    ``shared``: the receivers are one group, so that they have all files only together.
    ``source_of`` gives the path that a published name stands for, for tests with conflict names.
    ``wanted`` gives what must be published at the end, path → digest; else it is what lies in the
    sources' directories.
    """

    def __init__(
        self,
        sources: Sequence[Host],
        receivers: Sequence[Host],
        *,
        shared: bool = False,
        source_of: Callable[[bytes], bytes] = same_name,
        wanted: Callable[[], dict[bytes, str]] | None = None,
    ) -> None:
        self.sources = list(sources)
        self.receivers = list(receivers)
        self.arrivals = [Arrivals(one.down) for one in receivers]
        self._shared = shared
        self._source_of = source_of
        self.wanted = wanted or self._in_sources
        self._watching = ExitStack()

    def holds(
        self,
        deadline: float = 60,
        *,
        bad: Allowed | None = None,
        ledgers: bool = True,
    ) -> Verdict:
        """Wait until all is published, then fail unless every guarantee was kept.

        ``bad``: bad records that the receivers together must have counted, by reason; none if not
        given. ``ledgers=False`` where the test itself has lost one.
        """
        seconds = self.all_published(deadline)
        self._all_seen()
        self.nothing_half()
        self.once_on_each_host()
        if ledgers:
            self.nothing_said_is_missing()
        self.bad_records_are(bad or {})
        seen = sum(len(one.seen) for one in self.arrivals)
        versions = sum(len(found) for one in self.sources for found in one.versions.values())
        return Verdict(len(self.wanted()), versions, seen, seconds)

    def all_published(self, deadline: float) -> float:
        """Wait until each receiver (the group) has the newest version of all; the seconds."""
        started = now = time.monotonic()
        while missing := self._missing():
            if now > started + deadline:
                shown = "\n  ".join(map(repr, missing[:20]))
                raise AssertionError(f"{len(missing)} not within {deadline} s:\n  {shown}")
            looked = time.monotonic() - now
            time.sleep(max(0.05, looked))  # half of the time at most is spent on looking
            now = time.monotonic()
        return time.monotonic() - started

    def nothing_half(self) -> None:
        """Whatever ever had a final name was, at that moment, a whole version of that file."""
        versions: dict[bytes, set[str]] = {}
        for source in self.sources:
            for path, found in source.versions.items():
                versions.setdefault(path, set()).update(found)
        wrong = [text for one in self.arrivals for text in one.wrong]
        wrong += [
            f"neither a whole version nor an expected name: {seen.path!r}"
            for one in self.arrivals
            for seen in one.seen
            if seen.digest not in versions.get(self._source_of(seen.path), ())
        ]
        assert not wrong, "\n".join(wrong[:20])

    def once_on_each_host(self) -> None:
        """No transfer got a name twice on one host, and no version did under two transfers.

        One may have two names one after the other: what was exchanged for a file that turns out to
        have been edited gets a conflict name.
        """
        for host, arrivals in zip(self.receivers, self.arrivals, strict=True):
            times = Counter((one.path, one.tid) for one in list(arrivals.seen) if one.tid)
            again = [path for (path, _), count in times.items() if count > 1]
            assert not again, f"{host.down}: published again: {again[:20]}"
            names = [one for one, count in Counter(self._published(host)).items() if count > 1]
            assert not names, f"{host.down}: published under two names: {names[:20]}"
            versions = Counter((one.path, one.digest) for one in arrivals.seen)
            again = [path for (path, _), count in versions.items() if count > 1]
            assert not again, f"{host.down}: the same version came twice: {again[:20]}"
            eventually(partial(_all_told, host, arrivals), NOTED_SECONDS)

    def nothing_said_is_missing(self) -> None:
        """All that a sender calls in Kafka or delivered has ended well at each receiver."""
        end = time.monotonic() + NOTED_SECONDS
        while (missing := self._said_and_missing()) and time.monotonic() < end:
            time.sleep(0.1)
        assert not missing, f"said to be there, and isn't: {missing[:20]}"

    def _said_and_missing(self) -> list[str]:
        there = [
            {tid for tid, state in ended(one) if state in ENDED_WELL} for one in self.receivers
        ]
        if self._shared:
            there = [set().union(*there)]
        said = {tid for one in self.sources for tid, state in accepted(one) if state in SAID_THERE}
        return [tid.hex() for known in there for tid in said - known]

    def bad_records_are(self, allowed: Allowed) -> None:
        """Every bad record was counted, and no good one was.

        Repetitions are what a resumed transfer consists of: any number unless the test says how
        many.
        """
        allowed = {"duplicate": (0, sys.maxsize), **allowed}
        counted: Counter[str] = Counter()
        for receiver in self.receivers:
            for reason, count in bad_records(receiver):
                counted[reason] += count
        wrong = {
            reason: (counted[reason], allowed.get(reason, (0, 0)))
            for reason in counted.keys() | allowed.keys()
            if not _within(counted[reason], allowed.get(reason, (0, 0)))
        }
        assert not wrong, f"bad records, by reason: (counted, allowed): {wrong}"

    def __enter__(self) -> Self:
        for one in self.arrivals:
            self._watching.enter_context(one)
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.close()

    def _all_seen(self) -> None:
        """The kernel's events come a little later than what they tell of."""
        for one in self.arrivals:
            one.catch_up()
        wanted = set(self.wanted().items())
        assert all(wanted <= seen for seen in self._seen()), "published, and not seen to come"

    def _seen(self) -> list[set[tuple[bytes, str]]]:
        seen = [
            {(self._source_of(one.path), one.digest) for one in list(arrivals.seen)}
            for arrivals in self.arrivals
        ]
        return [set().union(*seen)] if self._shared else seen

    def _in_sources(self) -> dict[bytes, str]:
        return {path: found for one in self.sources for path, found in one.sources().items()}

    def _missing(self) -> list[bytes]:
        wanted = set(self.wanted().items())
        trees = [set(self._published(one)) for one in self.receivers]
        if self._shared:
            trees = [set().union(*trees)]
        return sorted({path for tree in trees for path, _ in wanted - tree})

    def _published(self, host: Host) -> Iterator[tuple[bytes, str]]:
        return ((self._source_of(path), found) for path, found in host.published().items())


ENDED_WELL = ("published", "superseded")


def accepted(host: Host) -> list[tuple[bytes, str]]:
    """Tid and state of every transfer that the host has accepted for sending."""
    return rows(host, "SELECT tid, state FROM outgoing")


def ended(host: Host) -> list[tuple[bytes, str]]:
    """Tid and state of every transfer that has ended, or is to be renamed, on the host."""
    return rows(host, "SELECT tid, state FROM incoming")


def bad_records(host: Host) -> list[tuple[str, int]]:
    """How many records the host has dropped, by reason."""
    return rows(host, "SELECT reason, count FROM bad_record")


def _all_told(host: Host, arrivals: Arrivals) -> bool:
    """Whether the ledger has each transfer that got a name, and once."""
    told = Counter(tid for tid, state in ended(host) if state == "published")
    return set(told.values()) <= {1} and set(arrivals.times()) <= set(told)


def _within(count: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= count <= bounds[1]


def rows(host: Host, statement: str) -> list[Any]:
    """What a query finds in its ledger, whether it runs or not."""
    ledger = f"file:{host.state / 'ledger.db'}?mode=ro"
    with closing(sqlite3.connect(ledger, uri=True, timeout=10)) as database:
        return database.execute(statement).fetchall()
