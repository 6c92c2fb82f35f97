"""Answers about transfers: those in the ledger, and those that are being put together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from kfd.control import Direction, ListParameters, State, Transfer
from kfd.control.transfers import Details, Refusal
from kfd.daemon.answers.holdups import HoldUps
from kfd.daemon.context import Context
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.ledger import details, outgoing, queries, retrying, searching
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.operations import RETRIED_AT_ONCE, Asker, Retried
from kfd.daemon.outgoing.sending import GONE
from kfd.daemon.outgoing.uploads import Uploads
from kfd.errors import KfdError, NoSuchTransferError, NotPermittedError
from kfd.paths import escape, to_json
from kfd.transfer import OpenTransfer
from kfd.users import name_of


class TransferAnswers:
    """What is known of transfers of both directions, and what may be done to those of this host."""

    def __init__(self, context: Context, uploads: Uploads, downloads: Downloads) -> None:
        self._ledger = context.ledger
        self._holdups = HoldUps(context)
        self._uploads = uploads
        self._downloads = downloads

    def transfers(self, tids: Sequence[str]) -> list[Transfer]:
        return [self._holdups.told(self._find(tid)) for tid in tids]

    def list_transfers(self, wanted: ListParameters) -> list[Transfer]:
        open_ones = self._receiving(wanted) if wanted.state in (None, State.RECEIVING) else []
        stored = queries.newest(self._ledger.reader(), self._ledger.origin, wanted)
        shown = {
            (one.route, one.tid) for one in open_ones
        }  # some of these are just being published
        return (open_ones + [t for t in stored if (t.route, t.tid) not in shown])[: wanted.limit]

    def looks_at_all(self, wanted: ListParameters) -> bool:
        return searching.looks_at_all(self._ledger.reader(), wanted)

    def wait_for_change(self, seen: int, timeout: float) -> int:
        return self._ledger.wait_for_change(seen, timeout)

    def show(self, tid: str, route: str | None) -> list[tuple[Transfer, Details]]:
        known = queries.halves(self._ledger.reader(), self._ledger.origin, tid)
        stored = [(one, details.of(self._ledger.reader(), one)) for one in known]
        found = [(one, further) for one, further in stored if further is not None]
        routes = {one.route for one in known if one.direction is Direction.DOWNLOAD}
        found += [
            (_open_transfer(name, one), details.of_begin(one))
            for name, one in self._opened(known[0].tid if known else tid)
            if name not in routes
        ]
        chosen = [one for one in found if route in (None, one[0].route)]
        if not chosen:
            raise queries.no_such(f"{tid} in route {route}" if found else tid)
        return [(self._holdups.told(transfer), further) for transfer, further in chosen]

    def cancel(self, tid: str, asker: Asker) -> Transfer:
        transfer, row = self._own(tid, asker, "cancel")
        if transfer.state in (State.QUEUED, State.SENDING):
            self._uploads.cancel(row.id, f"cancelled by {name_of(asker.uid)}")
            transfer = self._find(transfer.tid)
        elif transfer.state is State.FAILED:
            self._uploads.put_aside(row.id, f"put aside by {name_of(asker.uid)}")
            transfer = self._find(transfer.tid)
        if transfer.state is State.SENDING:
            raise KfdError(
                f"{transfer.path}: all of it is on its way to Kafka already",
                fix=f"receivers get it; see what comes of it: kfdctl wait {transfer.tid[-8:]}",
            )
        if transfer.state is not State.CANCELLED:
            state = transfer.state.value.replace("_", "-")
            fix = "receivers get it" if transfer.state is State.IN_KAFKA else ""
            raise KfdError(f"{transfer.path} is {state}: it can't be cancelled any more", fix=fix)
        return transfer

    def retry(self, tids: Sequence[str], asker: Asker) -> Retried:
        return self._retry([self._own(tid, asker, "retry")[1] for tid in tids])

    def retry_failed(
        self, route: str | None, after: int, asker: Asker
    ) -> tuple[Retried, int | None]:
        uid = None if asker.owner else asker.uid
        rows = retrying.failed(self._ledger.reader(), route, uid, after, RETRIED_AT_ONCE)
        return self._retry(rows), rows[-1].id if len(rows) == RETRIED_AT_ONCE else None

    def _retry(self, rows: Sequence[Outgoing]) -> Retried:
        reasons = self._uploads.retry(rows) if rows else {}
        refused = [
            Refusal(row.tid.hex(), escape(row.path), why, _how_instead(row, why))
            for row in rows
            if (why := reasons.get(row.id))
        ]
        again = [row.tid.hex() for row in rows if row.id not in reasons]
        return Retried(self.transfers(again), refused)

    def _own(self, tid: str, asker: Asker, deed: str) -> tuple[Transfer, Outgoing]:
        """A transfer that this host sends, if the asker may do this to it."""
        transfer = self._find(tid)
        if transfer.direction is not Direction.UPLOAD:
            raise KfdError(
                f"{transfer.path} is received here, not sent", fix=f"{deed} it on {transfer.origin}"
            )
        row = outgoing.by_tid(self._ledger.reader(), bytes.fromhex(transfer.tid))
        if not asker.owner and row.uid != asker.uid:
            raise NotPermittedError(
                f"{transfer.path}: you may {deed} only what you have sent yourself", fix="use sudo"
            )
        return transfer, row

    def _find(self, tid: str) -> Transfer:
        """What the ledger knows, or what is being put together and isn't there yet."""
        try:
            return queries.find(self._ledger.reader(), self._ledger.origin, tid)
        except NoSuchTransferError:
            for name, one in self._opened(tid):
                return _open_transfer(name, one)
            raise

    def _opened(self, tid: str) -> Iterator[tuple[str, OpenTransfer]]:
        """What is being put together under this id; with its route."""
        for name, one in self._downloads.receiving():
            if one.tid.hex().endswith(tid):
                yield name, one

    def _receiving(self, wanted: ListParameters) -> list[Transfer]:
        return [
            _open_transfer(name, one)
            for name, one in self._downloads.receiving()
            if wanted.route in (None, name) and _is_wanted(one, wanted)
        ]


def _is_wanted(one: OpenTransfer, wanted: ListParameters) -> bool:
    """As :mod:`kfd.daemon.ledger.searching` has it: one that has not ended is of now."""
    path, pattern = os.fsdecode(one.begin.path), wanted.name
    if pattern is not None and not fnmatchcase(path, pattern):
        name = path.rpartition("/")[2]
        if "/" in pattern or not fnmatchcase(name, pattern):
            return False
    if wanted.until is not None and wanted.until < time.time():
        return False
    meta = one.begin.meta
    return all(meta.get(key) == value for key, value in (wanted.meta or {}).items())


def _how_instead(row: Outgoing, why: str) -> str:
    """How the file gets sent that can't be sent as it was."""
    if why == GONE.reason:
        return GONE.fix
    if row.uid is None:
        return (
            "nothing is to be done: kfd sends by itself what is in the directory now;"
            f" kfdctl rescan {row.route} has it look at once"
        )
    return "kfdctl send it again"


def _open_transfer(route: str, one: OpenTransfer) -> Transfer:
    begin = one.begin
    text, encoded = to_json(begin.path)
    return Transfer(
        tid=one.tid.hex(),
        direction=Direction.DOWNLOAD,
        route=route,
        topic=begin.topic,
        origin=begin.origin,
        path=text,
        path_base64=encoded,
        size=begin.size,
        state=State.RECEIVING,
        done=one.received,
        reason="",
        fix="",
        queued_at=None,
        ended_at=None,
        successor=None,
    )
