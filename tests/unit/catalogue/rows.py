"""Rows to be written, and sinks to write them with."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from kfd.config import Config, from_values
from kfd.config.catalogues import SqlCatalogue
from kfd.daemon.catalogue.sink import Row
from kfd.daemon.catalogue.sql import SqlSink
from kfd.paths import escape

WHEN = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)


def row(number: int = 0, path: bytes = b"scope3/run.trc", **changes: Any) -> Row:
    values: dict[str, Any] = {
        "tid": f"{number:032x}",
        "receiver": "lab2",
        "route": "archive",
        "name": escape(path.rpartition(b"/")[2]),
        "path": escape(path),
        "path_bytes": path,
        "stored": escape(path),
        "size": 20_000,
        "digest": "ab" * 32,
        "origin": "scope3",
        "topic": "lecroy_files",
        "mtime": WHEN,
        "sent": WHEN,
        "published": WHEN,
        "metadata": {"sample": "42"},
    }
    return Row(**values | changes)


def configured(**settings: Any) -> Config:
    values = {"kafka": {"bootstrap.servers": "b:1"}, "catalogue": {"lab": settings}}
    return from_values(values)


def sql_sink(password: str = "", **settings: Any) -> SqlSink:
    found = configured(**settings).catalogue["lab"]
    assert isinstance(found, SqlCatalogue)
    return SqlSink(found, lambda: password, threading.Event())
