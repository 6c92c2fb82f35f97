"""What people are answered who have a catalogue written again, or add files to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from kfd.config import from_values
from kfd.config.catalogues import AnyCatalogue
from kfd.daemon.answers.catalogue import CatalogueAnswers
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.ledger import Ledger, catalogue
from kfd.daemon.operations import AddRequest, OfferedFile
from kfd.errors import UsageError

CASJOBS = {"kind": "casjobs", "token": "t"}
OLD = {"columns": {"FileName": "name", "FileSize": "size"}}


class Configured:
    """Catalogues that nobody tells."""

    def __init__(self, settings: Mapping[str, AnyCatalogue]) -> None:
        self._settings = settings

    def settings(self) -> Mapping[str, AnyCatalogue]:
        return self._settings

    def nudge(self) -> None:
        """Nobody sleeps."""


@pytest.fixture
def answers(ledger: Ledger) -> CatalogueAnswers:
    """Of one catalogue with a column for tid, and one without."""
    values = {"lab": CASJOBS, "old": CASJOBS | OLD}
    config = from_values({"kafka": {"bootstrap.servers": "b:1"}, "catalogue": values})
    ledger.write(lambda db: catalogue.configure(db, dict.fromkeys(values, "false")))
    return CatalogueAnswers(ledger, cast(Catalogues, Configured(config.catalogue)))


@pytest.fixture
def request_of(tmp_path: Path) -> Iterator[AddRequest]:
    """For one file, to all."""
    (tmp_path / "a").write_bytes(b"1")
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    file = OfferedFile(descriptor, os.fsencode(tmp_path / "a"), None, None)
    yield AddRequest([file], None, {}, 0, lambda: False, lambda: None)
    os.close(descriptor)


def waiting(ledger: Ledger) -> dict[str, int]:
    return {one.name: one.waiting for one in catalogue.standings(ledger.reader())}


def end(ledger: Ledger, *, refused: Sequence[str] = ()) -> None:
    """All is written, or refused by these."""
    for one in catalogue.standings(ledger.reader()):
        entries, _ = catalogue.waiting(ledger.reader(), one.id, 100)
        keys = [entry.key for entry in entries]
        no = [(key, "no") for key in keys] if one.name in refused else []
        ledger.write(partial(catalogue.written, sink=one.id, keys=keys, refused=no))


def test_everything_again_would_double_a_table_without_tids(answers: CatalogueAnswers) -> None:
    for name in (None, "old"):
        with pytest.raises(UsageError, match="catalogue old has no column for tid") as caught:
            answers.retry_catalogue(name, everything=True)
        assert "catalogue.old.columns" in caught.value.fix
    assert answers.retry_catalogue("lab", everything=True).catalogues == ["lab"]
    assert answers.retry_catalogue(None, everything=False).catalogues == ["lab", "old"]


def test_a_file_that_is_added_twice(
    answers: CatalogueAnswers, ledger: Ledger, request_of: AddRequest
) -> None:
    """It is told once more where that changes nothing, or where it was refused."""
    (first,) = answers.add(request_of)
    assert waiting(ledger) == {"lab": 1, "old": 1}
    end(ledger)
    (again,) = answers.add(request_of)
    assert again.tid == first.tid is not None
    assert waiting(ledger) == {"lab": 1, "old": 0}
    end(ledger)


def test_how_many_refused_rows_are_tried(
    answers: CatalogueAnswers, ledger: Ledger, request_of: AddRequest
) -> None:
    answers.add(request_of)
    end(ledger, refused=["old", "lab"])
    assert answers.retry_catalogue("old", everything=False).rows == 1
    assert answers.retry_catalogue(None, everything=False).rows == 2
    answers.add(request_of)
    assert waiting(ledger) == {"lab": 1, "old": 1}
