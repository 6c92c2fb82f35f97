"""Rows, and a sink of CasJobs with what it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from kfd.config.catalogues import FIELDS, CasJobsCatalogue
from kfd.config.sections import NAME_KEY
from kfd.daemon.catalogue.casjobs import CasJobsSink
from kfd.daemon.catalogue.sink import Row

EVERY = {name: name for name in FIELDS}

ROW = Row(
    tid="f" * 32,
    receiver="archive1",
    route="archive",
    name="run42.trc",
    path="monday/run42.trc",
    path_bytes=b"monday/run42.trc",
    stored="scope3/monday/run42.trc",
    size=1234567,
    digest="ab" * 32,
    origin="scope3",
    topic="lecroy_files",
    mtime=datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC),
    sent=datetime(2026, 11, 23, 1, 2, 4, tzinfo=UTC),
    published=datetime(2026, 11, 23, 1, 2, 5, tzinfo=UTC),
    metadata={"sample": "B17"},
)


def numbered(number: int, **changes: Any) -> Row:
    """The row of another transfer."""
    return replace(ROW, tid=f"{number:032x}", name=f"run{number}.trc", **changes)


@dataclass
class Remembered:
    """A memory that outlives sinks, as the ledger does."""

    text: str = ""
    written: list[str] = field(default_factory=list)

    def recall(self) -> str:
        return self.text

    def remember(self, text: str) -> None:
        self.text = text
        self.written.append(text)


def configured(settings: dict[str, Any]) -> CasJobsCatalogue:
    """As the configuration reads it, all values as text."""
    texts = {key: str(value) if key != "columns" else value for key, value in settings.items()}
    if "recreate" in texts:
        texts["recreate"] = texts["recreate"].lower()
    return CasJobsCatalogue.model_validate({NAME_KEY: "sciserver", **texts})


def sink(
    settings: dict[str, Any],
    secret: Callable[[], str] | None = None,
    memory: Remembered | None = None,
    stopping: threading.Event | None = None,
) -> CasJobsSink:
    given = settings.get("token") or settings["password"]
    return CasJobsSink(
        configured(settings),
        secret or (lambda: given),
        stopping or threading.Event(),
        memory or Remembered(),
    )
