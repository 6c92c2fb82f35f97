"""The line that tells how far the reading is, on a terminal that shows the records as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import cast

import pytest

from kfd.ctl import topicsource
from kfd.ctl.topicsource import Opened
from kfd.inspection.reading import Span, TopicReader
from kfd.inspection.record import Record
from tests.unit.ctl.kfdctl import shown_lines


class TwoBatches:
    """In the place of a topic's reader."""

    def records(self) -> Iterator[list[Record]]:
        yield []
        yield []


class Screen(StringIO):
    """A terminal, for those who ask."""

    def isatty(self) -> bool:
        return True


def test_a_record_never_stands_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topicsource, "_PROGRESS_SECONDS", 0)
    screen = Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        opened = Opened(cast("TopicReader", TwoBatches()), [Span(0, 0, 7, 0)], follow=False)
        for number, _ in enumerate(opened.batches()):
            opened.say(f"row {number}")
    assert screen.getvalue().count("of 7 records") == 2
    assert shown_lines(screen.getvalue()) == ["row 0", "row 1"]
