"""Which topic to read, from where, with which login: for ``kfdctl inspect topic``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kfd import config as configuration
from kfd.ctl.hostchecks import properties_of
from kfd.ctl.render import ProgressLine, note, on_terminal, plain, say
from kfd.errors import KfdError, UsageError, all_of
from kfd.inspection.reading import Span, Start, TopicReader
from kfd.inspection.record import Record
from kfd.unit import CONFIG
from kfd.units import parse_duration
from kfd.wire import is_topic
from kfd.yamlfile import Places

_PROGRESS_SECONDS = 0.2
_MOST_DIGITS = 19  # of an offset: 63 bits


@dataclass(slots=True)
class Opened:
    """A topic that is being read."""

    reader: TopicReader
    spans: list[Span]
    follow: bool
    line: ProgressLine = field(default_factory=ProgressLine)

    def say(self, text: str) -> None:
        """Print on stdout, where the progress line may stand as well."""
        if on_terminal(sys.stdout):
            self.line.clear()
        say(text)

    def batches(self) -> Iterator[list[Record]]:
        """What is read, to the end or for ever; says each time what keeps it from that."""
        return self._followed() if self.follow else self._to_the_end()

    def _to_the_end(self) -> Iterator[list[Record]]:
        progress = _Progress(self.line, sum(one.high - one.start for one in self.spans))
        try:
            for batch in self.reader.records():
                progress.add(len(batch))
                yield batch
        finally:
            self.line.clear()

    def _followed(self) -> Iterator[list[Record]]:
        told = ""
        for batch in self.reader.follow():
            trouble = self.reader.trouble
            if trouble and trouble != told:
                note(f"! {plain(trouble)}; waiting")
            told = trouble
            yield batch


@dataclass(slots=True)
class _Progress:
    """How many records were read, on a terminal, now and then."""

    line: ProgressLine
    total: int
    done: int = 0
    due: float = field(default_factory=lambda: time.monotonic() + _PROGRESS_SECONDS)

    def add(self, records: int) -> None:
        self.done += records
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + _PROGRESS_SECONDS
            self.line.show(f"{self.done:,} of {self.total:,} records")


@contextmanager
def opened(
    topic: str,
    bootstrap: str | None,
    config: Path | None,
    start: str,
    partitions: tuple[int, ...],
    follow: bool,
    timeout: float,
) -> Iterator[Opened]:
    """A topic, read from ``start`` on. Waits ``timeout`` seconds for brokers."""
    if not is_topic(topic):
        raise UsageError(f"{plain(topic)} can't be the name of a topic", fix="give its name")
    begin = _start(start)
    reader = TopicReader(_properties(bootstrap, config), topic, timeout)
    try:
        spans = reader.spans(begin, partitions)
        reader.begin(spans, follow=follow)
        yield Opened(reader, spans, follow)
    finally:
        reader.close()


def _start(text: str) -> Start:
    if text in {"earliest", "latest"}:
        return Start(latest=text == "latest")
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return Start(offset=int(text))
    for read in (_ago, _moment):
        try:
            return Start(since=read(text))
        except (ValueError, OverflowError):
            continue
    raise UsageError(
        f"--from {plain(text)}: no place to begin at",
        fix="earliest, latest, an offset, a time like 2024-05-17T14:00, or 5m for 5 minutes ago",
    )


def _ago(text: str) -> float:
    return time.time() - parse_duration(text)


def _moment(text: str) -> float:
    """Of this host's time zone, unless it names one."""
    return datetime.fromisoformat(text).timestamp()


def _properties(bootstrap: str | None, config: Path | None) -> dict[str, str]:
    """Kafka's properties, with secrets that this user can read."""
    if bootstrap is not None and config is not None:
        raise UsageError("--bootstrap and --config both name brokers", fix="give one of the two")
    path = config or CONFIG
    if bootstrap is not None:
        values: dict[str, object] = {"kafka": {"bootstrap.servers": bootstrap}}
        loaded = configuration.from_values(values, Places({("kafka",): "--bootstrap"}))
    elif config is None and not path.exists():
        raise UsageError(f"no brokers: there is no {path}", fix="--bootstrap HOST:PORT")
    else:
        loaded = configuration.load(path)
    found, faults = properties_of(loaded, None)
    if faults:
        raise all_of(faults)
    if len(found) < len(loaded.kafka.values):
        raise KfdError(
            "a secret in it can't be read by this user",
            where=str(path),
            fix="run kfdctl as root, or as the user of kfd",
        )
    return found
