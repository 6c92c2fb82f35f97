"""Answers that CasJobs never gives: something else stands at its address."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kfd.daemon.catalogue.sink import SinkError
from tests.casjobs.server import RunningCasJobs, casjobs_server, status
from tests.unit.casjobs.rows import ROW, sink


@pytest.fixture
def casjobs() -> Iterator[RunningCasJobs]:
    with casjobs_server() as server:
        yield server


@pytest.mark.parametrize(
    "data",
    [
        [{"COLUMN_NAME": "FileName"}],  # as another Accept: is answered
        {"COLUMN_NAME": "FileName"},
        ["FileName"],
        [["FileName"], None],
        "FileName",
        7,
        None,
    ],
)
def test_rows_that_are_none(casjobs: RunningCasJobs, data: object) -> None:
    casjobs.next(status(200, json.dumps({"Result": [{"Data": data}]}).encode()))
    with pytest.raises(SinkError, match="isn't CasJobs' JSON"):
        sink(casjobs.settings()).write([ROW])


@pytest.mark.parametrize("body", ["[]", "7", "null", '{"Result": 7}', '{"Result": {"a": 1}}',
                                  '{"Result": [7]}', "[" * 9999, "9" * 9999])  # fmt: skip
def test_json_of_another_kind(casjobs: RunningCasJobs, body: str) -> None:
    casjobs.next(status(200, body.encode()))
    with pytest.raises(SinkError, match="isn't CasJobs' JSON"):
        sink(casjobs.settings()).write([ROW])


@pytest.mark.parametrize("to", ["http://[oops", "http://a\u00bd]/", "//[", "", "\xff"])
def test_redirects_to_what_is_no_address(casjobs: RunningCasJobs, to: str) -> None:
    casjobs.next(status(302, Location=to))
    with pytest.raises(SinkError, match=r"it redirects to '.*', which isn't followed"):
        sink(casjobs.settings()).write([ROW])
