"""Catalogues in a reload: what is published meanwhile is owed to all that are to know it."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.ledger import catalogue
from kfd.daemon.publishing.partials import DiskError
from tests.unit.reloading import Running


@pytest.fixture
def catalogued(running: Running, tmp_path: Path) -> Iterator[Running]:
    yield running
    running.reloader._parts.catalogues.stop(time.monotonic() + 30)


def sinks(running: Running) -> list[str]:
    return [one.name for one in catalogue.standings(running.ledger.reader())]


def configure(running: Running, *names: str) -> None:
    """Let these be the catalogues; each in a file of its own."""
    urls = {name: {"url": f"sqlite:///{running.home}/{name}.db"} for name in names}
    running.change(lambda values: values.update(catalogue=urls))


def test_a_new_one_is_owed_what_a_new_route_publishes_at_once(
    catalogued: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[list[str]] = []
    take = catalogued.downloads.take

    def taking(*arguments: Any) -> None:
        known.append(sinks(catalogued))
        take(*arguments)

    configure(catalogued, "old")
    catalogued.reloader.ask().result(60)
    monkeypatch.setattr(catalogued.downloads, "take", taking)
    configure(catalogued, "new")
    catalogued.reloader.ask().result(60)
    assert known == [["new", "old"]]
    assert sinks(catalogued) == ["new"]


def test_a_reload_that_fails_drops_nothing(
    catalogued: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(catalogued, "old")
    catalogued.reloader.ask().result(60)
    before = catalogue.sink_id(catalogued.ledger.reader(), "old")
    failures = [DiskError(OSError(errno.EIO, "Input/output error"), catalogued.home)]
    take = catalogued.downloads.take

    def failing(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        take(*arguments)

    monkeypatch.setattr(catalogued.downloads, "take", failing)
    configure(catalogued, "new")
    catalogued.refusal()
    assert sinks(catalogued) == ["old"]
    assert catalogue.sink_id(catalogued.ledger.reader(), "old") == before
