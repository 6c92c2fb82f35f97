"""Answers about catalogues, and to those who add files to them."""

from __future__ import annotations

from collections.abc import Sequence

from kfd.config.catalogues import knows_rows
from kfd.control.catalogue import (
    Added,
    Catalogue,
    ListCataloguesReply,
    RefusedRow,
    RetryCatalogueReply,
    WaitForCatalogueReply,
)
from kfd.daemon.catalogue.adding import look_at
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.ledger import Ledger, catalogue, cataloguing
from kfd.daemon.operations import AddRequest, OfferedFile
from kfd.errors import KfdError, UsageError
from kfd.paths import escape

__all__ = ["CatalogueAnswers", "standings"]


class CatalogueAnswers:
    """Over the ledger's outbox, and the stages that empty it."""

    def __init__(self, ledger: Ledger, catalogues: Catalogues) -> None:
        self._ledger = ledger
        self._catalogues = catalogues

    def list_catalogues(self, name: str | None, limit: int) -> ListCataloguesReply:
        names = self._names(name, known=name is not None)
        shown = [one for one in standings(self._ledger, self._catalogues) if one.name in names]
        found = cataloguing.refused(self._ledger.reader(), name, limit)
        return ListCataloguesReply(shown, [_shown(one) for one in found])

    def add(self, request: AddRequest) -> list[Added]:
        names = self._names(request.catalogue)
        looked = [self._look_at(file, request) for file in request.files]
        new = [one for one in looked if isinstance(one, cataloguing.Added)]
        once = self._without_tids(names)
        self._ledger.write(lambda db: cataloguing.add(db, new, names, once))
        self._catalogues.nudge()
        return [
            one
            if isinstance(one, Added)
            else Added(one.tid.hex(), escape(one.path), one.size, one.digest.hex())
            for one in looked
        ]

    def added(self, tids: Sequence[str], name: str | None) -> WaitForCatalogueReply:
        keys = [bytes.fromhex(tid) for tid in tids]
        owed = cataloguing.owed(self._ledger.reader(), keys, self._names(name))
        found = cataloguing.refused_added(self._ledger.reader(), name, keys)
        waiting = [tid for tid in tids if bytes.fromhex(tid) in owed]
        return WaitForCatalogueReply(waiting, [_shown(one) for one in found])

    def retry_catalogue(self, name: str | None, *, everything: bool) -> RetryCatalogueReply:
        names = self._names(name)
        if everything and (without := self._without_tids(names)):
            raise _every_row_twice(without[0])
        begin = cataloguing.begin_again if everything else cataloguing.retry
        standing = [one for one in standings(self._ledger, self._catalogues) if one.name in names]
        self._ledger.write(lambda db: begin(db, name))
        self._catalogues.nudge()
        return RetryCatalogueReply(names, sum(one.refused for one in standing))

    def _without_tids(self, names: Sequence[str]) -> list[str]:
        """Those in which nothing tells that a row is there already."""
        settings = self._catalogues.settings()
        return [name for name in names if name in settings and not knows_rows(settings[name])]

    def _look_at(self, file: OfferedFile, request: AddRequest) -> cataloguing.Added | Added:
        try:
            return look_at(file, request, self._ledger.origin)
        except KfdError as error:
            shown = escape(file.name or file.source or b"")
            return Added(None, shown, 0, None, error.what, error.fix)

    def _names(self, name: str | None, *, known: bool = True) -> list[str]:
        """The catalogues that are meant. Raises :class:`UsageError` where there is none."""
        names = list(self._catalogues.settings())
        if known and not names:
            raise UsageError(
                "no catalogue is configured", fix="write catalogue: {NAME: {url: ...}} in kfd.yaml"
            )
        if name is not None and name not in names:
            raise UsageError(f"there is no catalogue {name}", fix=f"one of: {', '.join(names)}")
        return names if name is None else [name]


def _shown(row: cataloguing.RefusedRow) -> RefusedRow:
    return RefusedRow(row.sink, row.tid.hex(), escape(row.path), row.reason, row.at)


def _every_row_twice(name: str) -> UsageError:
    return UsageError(
        f"catalogue {name} has no column for tid: each file would get one more row",
        fix=f"add one to its table and to catalogue.{name}.columns, or name another --catalogue",
    )


def standings(ledger: Ledger, catalogues: Catalogues) -> list[Catalogue]:
    """How all catalogues stand."""
    kinds = {name: settings.kind for name, settings in catalogues.settings().items()}
    return [
        Catalogue(
            *(one.name, kinds[one.name], one.waiting, one.refused, one.written, one.written_at),
            again=bool(one.again),
        )
        for one in catalogue.standings(ledger.reader())
        if one.name in kinds
    ]
