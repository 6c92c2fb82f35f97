"""Answers about what couldn't be published, and to those who release or remove it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from kfd.control.quarantine import (
    ListQuarantineReply,
    Prospect,
    PurgeReply,
    Quarantined,
    ReleaseReply,
    ShowQuarantinedReply,
)
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.ledger import Ledger, quarantine
from kfd.daemon.ledger.quarantine import Entry
from kfd.daemon.publishing.destination import PRIVATE, HeldKey
from kfd.daemon.quarantine.keeper import Keeper
from kfd.errors import KfdError, NoSuchTransferError, UsageError
from kfd.paths import BadPath, check_wire_path, escape, to_json
from kfd.receipts import fit_reason


class QuarantineAnswers:
    """The entries of the ledger, and what their keeper can do with them."""

    def __init__(self, ledger: Ledger, downloads: Downloads, keeper: Keeper) -> None:
        self._ledger = ledger
        self._downloads = downloads
        self._keeper = keeper

    def list_quarantine(self, route: str | None, limit: int) -> ListQuarantineReply:
        reader = self._ledger.reader()
        entries = [_shown(one) for one in quarantine.entries(reader, route, limit)]
        return ListQuarantineReply(
            entries, quarantine.used(reader), self._downloads.quarantine.size
        )

    def show_quarantined(self, tid: str, route: str | None) -> ShowQuarantinedReply:
        entry = self._find(tid, route)
        return ShowQuarantinedReply(
            entry=_shown(entry),
            mtime=entry.mtime_ns / 1e9,
            digest=entry.digest.hex() if entry.digest is not None else None,
            meta=json.loads(entry.meta),
            file=self._file(entry),
            told=f"quarantined: {fit_reason(entry.reason)}",
            release=self._prospect(entry),
        )

    def release(self, tid: str, route: str | None, name: bytes | None) -> ReleaseReply:
        entry = self._find(tid, route)
        _check_held(entry)
        if name is not None:
            try:
                check_wire_path(name)
            except BadPath as error:
                raise UsageError(
                    f"{escape(name)} can't be its name: {error}",
                    fix="give a name below the route's directory",
                ) from None
        return ReleaseReply(_shown(entry), escape(self._keeper.release(entry, name)))

    def purge(self, tids: Sequence[str], route: str | None) -> PurgeReply:
        ids = [self._find(tid, route).id for tid in tids]
        return PurgeReply(*self._keeper.purge(ids))

    def purge_older(self, seconds: float, route: str | None) -> PurgeReply:
        before = time.time() - seconds
        ids = quarantine.older(self._ledger.reader(), before, route, quarantine.MOST_ENTRIES)
        return PurgeReply(*self._keeper.purge(ids))

    def _find(self, tid: str, route: str | None) -> Entry:
        found = quarantine.find(self._ledger.reader(), bytes.fromhex(tid), route)
        if not found:
            raise NoSuchTransferError(f"{tid} isn't in quarantine", fix="kfdctl quarantine list")
        if len({one.tid for one in found}) > 1:
            raise UsageError(
                f"several transfers have an id that ends in {tid}", fix="give more digits"
            )
        if len({one.route for one in found}) > 1:
            routes = ", ".join(one.route for one in found)
            raise UsageError(f"{tid} is in quarantine in {routes}", fix="name one with --route")
        return found[0]

    def _file(self, entry: Entry) -> str | None:
        route = self._downloads.routes.get(entry.route)
        if route is None or not entry.held:
            return None
        name = HeldKey(entry.tid, entry.partition).name
        return f"{escape(bytes(route.config.directory / PRIVATE.decode()))}/{name.decode()}"

    def _prospect(self, entry: Entry) -> Prospect:
        try:
            _check_held(entry)
            return Prospect(escape(self._keeper.prospect(entry)), "", "")
        except KfdError as error:
            return Prospect(None, str(error), error.fix)


def _check_held(entry: Entry) -> None:
    if not entry.held:
        raise KfdError(
            f"the content of {escape(entry.path)} isn't there: {entry.note}",
            fix=f"send it again on {entry.origin}",
        )


def _shown(entry: Entry) -> Quarantined:
    text, encoded = to_json(entry.path)
    return Quarantined(
        *(entry.tid.hex(), entry.route, entry.topic, entry.origin, text, encoded, entry.size),
        *(entry.reason, entry.entered_at, bool(entry.held), entry.note),
    )
