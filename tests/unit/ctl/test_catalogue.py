"""What ``kfdctl catalogue`` says of what will be done, and of what can't be."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.control.catalogue import RetryCatalogueReply
from tests.control import CATALOGUE, MemoryOperations, busy_status
from tests.unit.ctl.kfdctl import run


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (0, "none was refused; rows that wait are tried now."),
        (1, "1 refused row will be written, and what waits."),
        (100_000, "100,000+ refused rows will be written, and what waits."),
    ],
)
def test_what_retry_does(
    served: Path, operations: MemoryOperations, monkeypatch: pytest.MonkeyPatch,
    refused: int, said: str,
) -> None:  # fmt: skip
    def retried(name: str | None, *, everything: bool) -> RetryCatalogueReply:
        return RetryCatalogueReply(["lab"], refused)

    monkeypatch.setattr(operations, "retry_catalogue", retried)
    out = run("catalogue", "retry", "--socket", served)[1]
    assert out == f"lab: {said}  See: kfdctl catalogue status\n"
    assert "all that the ledger knows" in run("catalogue", "retry", "--all", "--socket", served)[1]


def test_counts_that_end_somewhere(served: Path, operations: MemoryOperations) -> None:
    many = replace(CATALOGUE, waiting=100_000, refused=100_000)
    operations.now = replace(busy_status(), catalogues=[many])
    said = " ".join(run("status", "--socket", served)[1].split())
    assert "100,000+ rows waiting, 100,000+ refused (kfdctl catalogue status)" in said


def test_what_is_no_file_cannot_be_added(served: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run("catalogue", "add", tmp_path, "--socket", served)
    assert (code, err) == (
        2, f"kfdctl: {tmp_path} is a directory\n  fix: give the files in it\n",
    )  # fmt: skip
    code, _, err = run("catalogue", "add", tmp_path / "pipe", tmp_path, "--socket", served)
    assert f"{tmp_path}/pipe is not a regular file; nothing was added" in err
    assert "send" not in err
