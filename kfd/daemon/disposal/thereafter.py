"""The stage that disposes of a route's delivered files, as ``then`` says."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kfd.config import Upload
from kfd.config.values import KEEP
from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.disposal.disposal import AwayError, Batch, Disposer, Identity
from kfd.daemon.ledger import LedgerError, disposals
from kfd.daemon.ledger.disposals import Disposal
from kfd.daemon.stage import Stage
from kfd.daemon.writability import unwritable
from kfd.paths import escape
from kfd.unit import writable

log = logging.getLogger(__name__)

PAGE = 100  # files that are made durable, and noted, together
RETRY_SECONDS = 30.0  # before a file that could not be deleted or moved is tried again


class Thereafter(Stage):
    """Named ``then-ROUTE``. Hangs with a share that hangs, and holds nobody else up."""

    def __init__(
        self, route: Upload, context: Context, identity: Callable[[], Identity | None]
    ) -> None:
        """``identity`` is of the directory that is watched now; None while it is away."""
        super().__init__(f"then-{route.name}")
        self._route = route
        self._ledger = context.ledger
        self._health = context.health
        self._disposer = Disposer(route.directory, route.then, identity)
        self._failed: tuple[bytes, OSError] | None = None  # in this pass

    def run(self) -> None:
        seen = 0
        while not self.stopping.is_set():
            self.beat()
            if self._pass():
                seen = self._ledger.wait_for_change(seen, 1.0)
                self.stopping.wait(0.2)
            else:
                self.stopping.wait(RETRY_SECONDS)

    def _pass(self) -> bool:
        """All that are due; false if some have to be tried again."""
        self._failed = self._trouble_ahead()
        after = 0
        while not self.stopping.is_set():
            page = disposals.waiting(self._ledger.reader(), self._route.name, after, PAGE)
            if not page:
                break
            after = page[-1].id
            try:
                done = self._dispose(page)
            except AwayError:  # its watcher tells
                break
            except OSError as error:  # of the directories themselves, or of making it durable
                self._failed = (b"", error)
                break
            if done:
                reach("then.durable")
                self._note(done)
            self.beat()
        self._tell()
        return self._failed is None

    def _trouble_ahead(self) -> tuple[bytes, OSError] | None:
        """What keeps every file from being deleted or moved: told before the first one is due."""
        if self._route.then == KEEP:  # only what is owed from before
            return None
        for place in self._places:
            error = unwritable(place)
            if error is not None and error.errno not in (errno.ENOENT, errno.ENOTDIR):
                return b"", error
        return None

    @property
    def _places(self) -> list[Path]:
        directory = self._route.then.directory
        return [self._route.directory, *([] if directory is None else [directory])]

    def _dispose(self, page: list[Disposal]) -> list[int]:
        asked = disposals.still_asked_for(self._ledger.reader(), [one.source for one in page])
        free = [one for one in page if one.source not in asked]
        with self._disposer.batch() as batch:
            return [one.id for one in free if self._dispose_one(batch, one)]

    def _dispose_one(self, batch: Batch, one: Disposal) -> bool:
        try:
            if not batch.dispose(one):
                log.info("%s: %s was changed, and stays", self._route.name, escape(one.path))
        except OSError as error:
            self._failed = (one.path, error)
            return False
        return True

    def _note(self, done: list[int]) -> None:
        try:
            self._ledger.write_patiently(partial(disposals.over, done=done))
        except LedgerError:
            log.debug("%s: noted at the next start", self.name)

    def _tell(self) -> None:
        if self._failed is None:
            self._health.clear(self._route.name, "then")
            return
        path, error = self._failed
        verb = "deleted" if self._route.then.action == "delete" else "moved"
        what = escape(path) if path else "delivered files"
        self._health.report(
            self._route.name, "then", f"{what} can't be {verb}: {error.strerror or error}",
            self._fix(error),
        )  # fmt: skip

    def _fix(self, error: OSError) -> str:
        if error.errno == errno.EROFS:
            return writable(self._places)
        places = " ".join(map(str, self._places))
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"let kfd's user write in {places}, or then: keep; it is tried again"
        if error.errno == errno.EXDEV:
            return "give the file system below the route's directory a route of its own"
        return f"see to {places}; it is tried again every {RETRY_SECONDS:g} s"
