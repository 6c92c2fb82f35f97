"""Reading the configuration again, while the daemon works: all of a file is taken, or nothing.

A file with a fault changes nothing. Routes come, change and go; the threads, partitions and
transfers of the others aren't touched. Nothing about it is kept: killed at any point, the next
start uses the file as it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from kfd.config import Config, in_order, load
from kfd.config.apart import entangled
from kfd.config.changes import Changes, changes, in_effect
from kfd.daemon.admission.spool import Spool
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.context import Context
from kfd.daemon.disposal.disposing import Disposing
from kfd.daemon.housekeeping import Housekeeper
from kfd.daemon.incoming.downloads import ComingDownloads, Downloads, StuckError
from kfd.daemon.messageids import Message, about
from kfd.daemon.metrics.endpoint import Endpoint
from kfd.daemon.notify import Notifier
from kfd.daemon.outgoing.uploads import ComingUploads, Uploads
from kfd.daemon.receipts.confirmations import Confirmations
from kfd.daemon.stage import DeathHandler, Stage
from kfd.errors import ConfigError, KfdError, all_of, faults_of
from kfd.propertyfaults import property_fault, property_faults
from kfd.unit import restart

log = logging.getLogger(__name__)

TIDY_SECONDS = 5.0
SCOPE = "configuration"  # of what is shown by ``status``
UNCHANGED = "The running configuration is unchanged."


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reload changes."""

    context: Context
    uploads: Uploads
    downloads: Downloads
    disposing: Disposing
    confirmations: Confirmations
    housekeeper: Housekeeper
    spool: Spool
    endpoint: Endpoint
    catalogues: Catalogues


class Reloader(Stage):
    """Named ``reload``: one reload at a time. Hangs with a share, and holds nobody else up.

    The lock guards ``_asked``: whoever asks while somebody waits gets the same answer.
    """

    def __init__(
        self,
        parts: Parts,
        config: Config,
        path: Path | None,
        notifier: Notifier,
        on_death: DeathHandler,
    ) -> None:
        """``config`` runs already; ``path``: its file, None where it came from the command line."""
        super().__init__("reload")
        self.config = config  # what is in effect; replaced by this thread only
        self.path = path
        self._parts = parts
        self._notifier = notifier
        self._stage_died = on_death
        self._asked: Future[Changes] | None = None
        self._halfway = False  # routes are stopped, and couldn't be started again; this thread's
        self._lock = threading.Lock()
        self._news = threading.Event()

    def ask(self) -> Future[Changes]:
        """Ask for a reload; the answer comes when it is done, or a :class:`KfdError`. Any thread
        but one that holds a lock of the daemon's."""
        with self._lock:
            if self._asked is None:
                self._asked = Future()
            asked = self._asked
        self._news.set()
        if self.stopping.is_set():
            self._refuse()
        return asked

    def wake(self) -> None:
        self._news.set()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self._news.wait(TIDY_SECONDS)
                self._news.clear()
                self.beat()
                if (asked := self._next()) is not None:
                    self._answer(asked)
                self._parts.uploads.tidy()
                if self._halfway and not self._parts.context.life.ending:
                    self._go_back()
        finally:
            self._refuse()

    def _next(self) -> Future[Changes] | None:
        with self._lock:
            asked, self._asked = self._asked, None
        return asked

    def _refuse(self) -> None:
        asked = self._next()
        if asked is not None:
            asked.set_exception(KfdError("kfd is stopping", fix="start it again"))

    def _answer(self, asked: Future[Changes]) -> None:
        self._notifier.reloading()
        try:
            done = self._reload()
        except KfdError as error:
            refused = error if self._halfway else _unchanged(error)
            self._say_refused(refused)
            asked.set_exception(refused)
        except BaseException as error:
            asked.set_exception(error)
            raise
        else:
            self._say(done)
            asked.set_result(done)
        finally:
            self._notifier.ready()

    def _reload(self) -> Changes:
        """Check the file whole, then apply it. Raises :class:`KfdError` with all faults at once."""
        if self.path is None:
            raise KfdError(
                "kfd runs without a configuration file", fix="start it with --config FILE"
            )
        if self._parts.context.life.ending:
            raise KfdError("kfd is finishing its work", fix="start it again: it reads the file")
        wanted = load(self.path, property_fault)
        faults, properties = self._faults(wanted)
        if faults:  # before any directory is taken
            raise all_of(in_order(faults))
        target = in_effect(self.config, wanted)
        downloads = self._parts.downloads.prepare(target)
        try:
            uploads = self._parts.uploads.prepare(target)
        except BaseException:
            self._parts.downloads.abandon(downloads)
            raise
        todo = changes(self.config, wanted, self._parts.context.properties, properties)
        self._apply(target, uploads, downloads)
        self.config = target
        return todo

    def _faults(self, wanted: Config) -> tuple[list[KfdError], Mapping[str, str]]:
        """What is wrong besides the text of the file and its downloads; and Kafka's properties."""
        faults: list[KfdError] = [*self._wrong_origin(wanted), *entangled(wanted)]
        properties = self._parts.context.properties
        try:
            properties = wanted.kafka_properties()
            if properties != self._parts.context.properties:
                faults += property_faults(wanted, properties)
        except KfdError as error:
            faults.append(error)
        return faults, properties

    def _wrong_origin(self, wanted: Config) -> list[KfdError]:
        own = self._parts.context.ledger.origin
        if wanted.origin in (None, own):
            return []
        return [
            ConfigError(
                f"origin: {wanted.origin!r}, but this ledger sends as {own!r}",
                where=wanted.where("origin"),
                fix=f"write {own}, or give the new name a state directory of its own",
            )
        ]

    def _apply(self, target: Config, uploads: ComingUploads, downloads: ComingDownloads) -> None:
        """Let the routes be those of ``target``, or as they were if that can't be done."""
        try:
            self._parts.catalogues.expect(target)  # before anything goes: the ledger may be full
        except KfdError:
            self._parts.downloads.abandon(downloads)
            raise
        try:
            self._exchange(target, uploads, downloads)
        except KfdError as error:
            log.warning("the new configuration can't be used, going back: %s", error)
            self._parts.downloads.abandon(downloads)
            if isinstance(error, StuckError):
                self._parts.context.health.report(SCOPE, "stuck", str(error), error.fix)
            self._go_back()
            raise
        self._whole_again()

    def _go_back(self) -> None:
        """Let the routes be those of the configuration in effect. What fails is tried again."""
        before = self.config
        try:
            downloads = self._parts.downloads.prepare(before)
            try:
                self._exchange(before, self._parts.uploads.prepare(before), downloads)
            except BaseException:
                self._parts.downloads.abandon(downloads)
                raise
        except KfdError as error:
            self._halfway = True
            self._parts.context.health.report(
                SCOPE, "halfway", f"routes stand still since a reload failed: {error}", error.fix
            )
        else:
            self._whole_again()

    def _whole_again(self) -> None:
        self._halfway = False
        self._parts.context.health.clear(SCOPE, "halfway")

    def _exchange(self, target: Config, uploads: ComingUploads, downloads: ComingDownloads) -> None:
        """All that goes is stopped before anything is started: a directory may change sides."""
        parts = self._parts
        parts.uploads.retire(uploads)
        parts.downloads.retire(downloads)
        parts.context.topics.create = target.create_topics
        parts.downloads.take(downloads, self._stage_died)
        parts.uploads.take(uploads, self._stage_died)
        parts.confirmations.use(target.uploads)
        parts.downloads.use(target)
        parts.housekeeper.history = target.history
        parts.spool.limit = target.spool_max
        parts.spool.history = target.history
        parts.endpoint.use(target.metrics)
        parts.catalogues.apply(target, self._stage_died)
        for name in parts.disposing.apply(target.uploads, self._stage_died):
            parts.context.health.report(
                name, "then", "its share hangs: delivered files are left as they are",
                f"{restart()}, once the share answers",
            )  # fmt: skip

    def _say(self, done: Changes) -> None:
        assert self.path is not None
        health = self._parts.context.health
        health.clear(SCOPE, "refused")
        health.clear(SCOPE, "stuck")
        what = "; ".join(summary(done)) or "nothing has changed"
        log.info("reloaded %s: %s", self.path, what, extra=about(Message.RELOADED))
        if done.restart:
            health.note(
                SCOPE, "restart", f"changed, and needs a restart: {', '.join(done.restart)}",
                restart(),
            )  # fmt: skip
        else:
            health.clear(SCOPE, "restart")

    def _say_refused(self, error: KfdError) -> None:
        faults = faults_of(error)
        for fault in faults:
            told = about(Message.RELOAD_REFUSED, fix=fault.fix)
            log.error("not reloaded: %s", fault, extra=told)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        self._parts.context.health.note(
            SCOPE, "refused", f"not reloaded: {faults[0]}{more}", faults[0].fix, logged=True
        )


def summary(done: Changes) -> list[str]:
    """What was done, in words."""
    kinds: list[tuple[str, tuple[str, ...]]] = [
        ("added", done.added),
        ("changed", (*done.changed, *done.applied)),
        ("removed", done.removed),
    ]
    return [f"{word} {', '.join(names)}" for word, names in kinds if names]


def _unchanged(error: KfdError) -> KfdError:
    """The same, whose last fix says that nothing has happened."""
    last = faults_of(error)[-1]
    sentence = last.fix if last.fix.endswith((".", "?")) else f"{last.fix}."
    last.fix = f"{sentence} {UNCHANGED}" if last.fix else UNCHANGED
    return error
