"""A release: content in quarantine gets a name, by the rules and steps of any publication.

The ledger's row goes back to the intent to rename, and the entry stays until the name is durable:
killed in between, the next start brings the release to its end, or finds the content where it was.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass

from kfd.daemon.crashpoint import reach
from kfd.daemon.incoming.downloads import DownloadRoute
from kfd.daemon.ledger import Ledger, quarantine
from kfd.daemon.ledger.publications import Received
from kfd.daemon.ledger.quarantine import Entry
from kfd.daemon.messageids import Message, about
from kfd.daemon.publishing.complete import Held
from kfd.daemon.publishing.destination import Directories, HeldKey
from kfd.daemon.publishing.finishing import Finishing, Rules
from kfd.daemon.publishing.naming import Naming, Plan, Rejection
from kfd.daemon.publishing.partials import DiskError, Partials
from kfd.daemon.publishing.renaming import Renaming
from kfd.daemon.publishing.settlement import settle_releases
from kfd.errors import KfdError
from kfd.paths import escape
from kfd.transfer import OpenTransfer
from kfd.wire import Begin

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Release:
    """One entry of a route that runs, to be released by one thread at a time."""

    entry: Entry
    route: DownloadRoute
    ledger: Ledger

    def prospect(self) -> bytes:
        """The name that it would get now; raises :class:`KfdError` where it would get none.

        Nothing is changed, but that directories on the way there may be made.
        """
        with self.route.destination.directories() as directories:
            return self._plan(None, directories).name

    def publish(self, name: bytes | None) -> bytes:
        """Publish it, under ``name`` or its own; the name that it has now.

        Raises :class:`KfdError`; then it is in quarantine as before, or the disk failed and it is
        settled later.
        """
        destination = self.route.destination
        self._unlock()
        partials = Partials(destination)
        try:
            with destination.directories() as directories:
                self._publish(name, directories, partials)
        except OSError as error:
            raise DiskError(error, destination.directory) from error
        finally:
            partials.forget(self._key)
        settle_releases(self.entry.route, destination, self.ledger)
        reach("release.recorded")
        return self._published()

    @property
    def _key(self) -> HeldKey:
        return HeldKey(self.entry.tid, self.entry.partition)

    def _unlock(self) -> None:
        """Let it be written: a release that was interrupted may have given it its mode."""
        try:
            os.chmod(self._key.name, 0o600, dir_fd=self.route.destination.private)
        except FileNotFoundError:
            place = f"{self.route.destination.directory}/.kfd/quarantine"
            raise KfdError(
                f"the content of {escape(self.entry.path)} isn't in {place}",
                fix=f"if the route had another directory, move it from there; else send it again"
                f" on {self.entry.origin}",
            ) from None

    def _publish(self, name: bytes | None, directories: Directories, partials: Partials) -> None:
        destination, config = self.route.destination, self.route.config
        plan = self._plan(name, directories)
        rules = Rules(config.name, config.file_mode, self.route.group)
        ready, refused = Finishing(rules, destination, partials).finish([(self._whole(), plan)])
        for _, why in refused:
            raise _refused(why, self.entry)
        reach("release.prepared")
        for _, _, record in ready:
            self._intend(record)
            reach("release.intended")
            renaming = Renaming(destination, partials, self.ledger)
            try:
                renaming.rename(self._key, plan, record, directories)
            except OSError as error:  # as it is now, it is published or stays
                log.warning("%s: release of %s: %s", config.name, self._shown, error.strerror)
            reach("release.renamed")
            directories.sync()

    def _plan(self, name: bytes | None, directories: Directories) -> Plan:
        config = self.route.config
        naming = Naming(config.name, config.layout, self.ledger)
        transfer = self._whole().transfer
        begin = transfer.begin
        version = (self.entry.topic_id, begin.origin, begin.path)
        newest = naming.newest([(self.entry.topic_id, begin)]).get(version)
        if name is None:
            plan = naming.plan(transfer, newest, directories)
        else:
            plan = naming.plan_as(transfer, name, newest, directories)
        if isinstance(plan, Rejection):
            raise _refused(plan, self.entry)
        if name is not None and plan.name != name:
            raise KfdError(
                f"{escape(name)} is the name of another file", fix="give another name with --to"
            )
        return plan

    def _intend(self, record: Received) -> None:
        status = (record.device, record.inode, record.mtime_ns)
        taken = self.ledger.write(
            lambda db: quarantine.take_out(db, self.entry, record.name, status)
        )
        if not taken:
            raise KfdError(
                f"{self._shown} isn't in quarantine any more", fix="kfdctl quarantine list"
            )

    def _published(self) -> bytes:
        """What came of it."""
        name = quarantine.published_as(self.ledger.reader(), self.entry.id)
        if name is None:
            raise KfdError(
                f"{self._shown} could not be given its name",
                fix="see to its directory, or give another name with --to",
            )
        told = about(
            Message.PUBLISHED,
            route=self.entry.route,
            transfers=[(self.entry.tid, self.entry.path)],
        )
        log.info("released %s from quarantine as %s", self._shown, escape(name), extra=told)
        return name

    @property
    def _shown(self) -> str:
        return escape(self.entry.path)

    def _whole(self) -> Held:
        entry = self.entry
        begin = Begin(
            path=entry.path,
            topic=entry.topic,
            origin=entry.origin,
            instance=b"",
            generation=entry.generation,
            size=entry.size,
            mtime_ns=entry.mtime_ns,
            mode=entry.mode,
            chunk_size=max(1, entry.size),  # how it came doesn't matter any more
            chunks=1,
            meta=json.loads(entry.meta),
        )
        transfer = OpenTransfer(entry.tid, begin, entry.first_offset, digest=entry.digest, saved=1)
        return Held(transfer, entry.topic_id, entry.partition)


def _refused(why: Rejection, entry: Entry) -> KfdError:
    if why.state == "superseded":
        return KfdError(
            f"{escape(entry.path)}: {why.reason}",
            fix="give it another name with --to, or: kfdctl quarantine purge "
            + entry.tid.hex()[-8:],
        )
    return KfdError(
        f"{escape(entry.path)}: {why.reason}",
        fix="mend that, or give it another name with --to",
    )
