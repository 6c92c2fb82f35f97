"""The moments and patterns by which transfers are looked for."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest

from kfd.control import State
from kfd.ctl.searching import _moment, wanted
from kfd.errors import UsageError
from tests.unit.ctl.kfdctl import run

ALL: dict[str, Any] = {
    "state": None, "route": None, "name": None, "since": None, "until": None, "meta": (),
}  # fmt: skip


def moment(text: str) -> float:
    context = click.Context(click.Command("list"))
    found = _moment(context, click.Option(["--since"]), text)
    assert found is not None
    return found


@pytest.mark.parametrize(("text", "ago"), [("90s", 90), ("2h", 7200), ("7d", 7 * 86400)])
def test_so_long_ago(text: str, ago: int) -> None:
    assert abs(time.time() - ago - moment(text)) < 60


@pytest.mark.parametrize("text", ["2026-11-23", "2026-11-23 14:30", "2026-11-23T14:30:05+02:00"])
def test_dates_are_local_unless_they_say_otherwise(text: str) -> None:
    assert moment(text) == datetime.fromisoformat(text).timestamp()


def test_what_is_asked_for() -> None:
    found = wanted(5, **ALL | {"state": "in-kafka", "name": "*.trc", "meta": ("a=b=c",)})
    assert (found.state, found.name, found.meta) == (State.IN_KAFKA, "*.trc", {"a": "b=c"})
    assert wanted(5, **ALL).meta is None
    with pytest.raises(UsageError):
        wanted(5, **ALL | {"meta": ("a",)})


@pytest.mark.parametrize(
    "arguments",
    [("list", "--since", "yesterday"), ("show",), ("show", "0" * 8, "--name", "x")],
)
def test_what_makes_no_sense_is_refused(served: Path, arguments: tuple[str, ...]) -> None:
    status, _, said = run("--socket", served, *arguments)
    assert (status, "Traceback" in said) == (2, False)
