"""The keeper of the quarantine: releases and purges, one at a time, and what keeps it bounded.

Consumers put contents in and never touch them again; all else that is done with them is done here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from kfd.daemon.context import Context
from kfd.daemon.crashpoint import reach
from kfd.daemon.incoming.downloads import DownloadRoute, Downloads
from kfd.daemon.ledger import LedgerError, quarantine
from kfd.daemon.publishing.partials import DiskError
from kfd.daemon.publishing.settlement import settle_releases
from kfd.daemon.quarantine.release import Release
from kfd.daemon.stage import Stage
from kfd.errors import KfdError

log = logging.getLogger(__name__)

T = TypeVar("T")

TIDY_SECONDS = 5.0
EXPIRE_SECONDS = 3600.0
PAGE = 500  # entries deleted in one transaction


class Keeper(Stage):
    """Named ``quarantine``. Hangs with a share, and holds nobody up but those who ask it.

    The lock guards ``_asked`` and ``_ended``; at most the control server's connections wait there.
    """

    def __init__(self, context: Context, downloads: Downloads) -> None:
        super().__init__("quarantine")
        self._ledger = context.ledger
        self._downloads = downloads
        self._asked: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ended = False  # nobody serves what is asked from now on
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._expired_at = -EXPIRE_SECONDS
        self._strange: set[tuple[str, bytes]] = set()  # told of already: route, name

    # for the control server's threads

    def release(self, entry: quarantine.Entry, name: bytes | None) -> bytes:
        """Publish an entry's content under ``name`` or its own; the name that it has then.

        Raises :class:`KfdError`.
        """
        return self._do(lambda: self._of(entry).publish(name))

    def prospect(self, entry: quarantine.Entry) -> bytes:
        """The name that a release would give it; raises :class:`KfdError` where it is refused."""
        return self._do(lambda: self._of(entry).prospect())

    def purge(self, ids: list[int]) -> tuple[int, int]:
        """Remove entries with their contents; how many, and the bytes of contents."""
        return self._do(lambda: self._purge(ids))

    def _do(self, work: Callable[[], T]) -> T:
        asked: Future[T] = Future()
        with self._lock:
            if self._ended or not self.alive:
                raise _not_now()
            self._asked.append((work, asked))
        self._news.set()
        return asked.result()

    # in its own thread

    def wake(self) -> None:
        self._news.set()

    def run(self) -> None:
        try:
            self._tidy()
            while not self.stopping.is_set():
                self._news.wait(TIDY_SECONDS)
                self._news.clear()
                self.beat()
                self._serve()
                self._tidy()
        finally:
            with self._lock:
                self._ended = True
            self._refuse()

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._lock:
            return self._asked.popleft() if self._asked else None

    def _serve(self) -> None:
        while not self.stopping.is_set() and (asked := self._next()) is not None:
            work, answer = asked
            try:
                answer.set_result(work())
            except KfdError as error:
                answer.set_exception(error)
            except OSError as error:  # a disk's, of one request: the others and the daemon go on
                answer.set_exception(_refused_by_disk(error))
            except BaseException as error:
                answer.set_exception(error)
                raise

    def _refuse(self) -> None:
        while (asked := self._next()) is not None:
            asked[1].set_exception(_not_now())

    def _of(self, entry: quarantine.Entry) -> Release:
        route = self._downloads.routes.get(entry.route)
        if route is None:
            raise KfdError(
                f"there is no download route {entry.route} any more",
                fix="configure it with the directory that it had, then: kfdctl reload",
            )
        return Release(entry, route, self._ledger)

    def _purge(self, ids: list[int]) -> tuple[int, int]:
        count = size = 0
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            some, length = self._ledger.write(partial(quarantine.purge, ids=page))
            count, size = count + some, size + length
        reach("purge.recorded")
        self._sweep_all()
        return count, size

    def _tidy(self) -> None:
        try:
            self._settle_all()
            self._expire()
            self._bound()
            self._free_space()
            self._sweep_all()
        except (LedgerError, DiskError, OSError) as error:
            log.debug("the quarantine is tidied later: %s", error)

    def _settle_all(self) -> None:
        for name, route in self._downloads.routes.items():
            settle_releases(name, route.destination, self._ledger)

    def _expire(self) -> None:
        if time.monotonic() - self._expired_at < EXPIRE_SECONDS:
            return
        self._expired_at = time.monotonic()
        before = time.time() - self._downloads.quarantine.history
        while ids := quarantine.older(self._ledger.reader(), before, None, PAGE):
            if not self._purge(ids)[0]:
                return

    def _bound(self) -> None:
        limit = self._downloads.quarantine.size
        if quarantine.used(self._ledger.reader()) > limit:
            self._ledger.write(lambda db: quarantine.make_room(db, limit))

    def _free_space(self) -> None:
        """Give up what is in the way of files that wait for space, or takes of ``min_free``."""
        for device in {one.destination.device for one in self._downloads.routes.values()}:
            routes = {
                name: one
                for name, one in self._downloads.routes.items()
                if one.destination.device == device
            }
            held = quarantine.used(self._ledger.reader(), routes)
            size = _missing(routes, held) if held else 0
            if size:
                give_up = partial(quarantine.make_space, routes=set(routes), size=size)
                given_up = self._ledger.write(give_up)
                log.warning("%s: %d contents of the quarantine were given up, for the disk is full",
                            ", ".join(routes), given_up)  # fmt: skip

    def _sweep_all(self) -> None:
        reach("quarantine.sweeping")
        for name, route in self._downloads.routes.items():
            self._sweep(name, route)

    def _sweep(self, name: str, route: DownloadRoute) -> None:
        """Remove what the ledger doesn't hold. What it has never heard of stays: an older ledger
        was restored, and nobody else may have the file."""
        there = route.destination.held()  # first: what comes later is held already
        if not there:
            return
        reader = self._ledger.reader()
        held = quarantine.held(reader, name)
        for key in there:
            if key in held:
                continue
            if quarantine.has_ended(reader, name, key.tid, key.partition):
                route.destination.remove_part(key)
            elif (name, key.name) not in self._strange:
                self._strange.add((name, key.name))
                log.warning(
                    "%s/.kfd/%s isn't known to this ledger: it stays; look at it, and remove it",
                    *(route.destination.directory, key.name.decode()),
                )


def _not_now() -> KfdError:
    return KfdError("kfd is starting or stopping", fix="try it again")


def _refused_by_disk(error: OSError) -> KfdError:
    return KfdError(
        f"a disk refuses: {error.strerror or error}",
        fix="see to the disk of the route's directory, then try it again; nothing is lost",
    )


def _missing(routes: Mapping[str, DownloadRoute], held: int) -> int:
    """Bytes to be freed on the disk of these routes so that something can go on; 0 if nothing has
    to be, or ``held`` is too little for that."""
    waiting = [size for one in routes.values() for consumer in one.consumers
               if (size := consumer.waiting)]  # fmt: skip
    for extra in (min(waiting, default=0), 0):
        shortage = max(_shortage(route, extra) for route in routes.values())
        if 0 < shortage <= held:
            return shortage
    return 0


def _shortage(route: DownloadRoute, extra: int) -> int:
    free, total = route.destination.space()
    return extra + route.config.min_free.on(total) - free if total else 0
