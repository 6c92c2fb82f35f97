"""Publishing: complete partials get their final names, durably, once, and never over what isn't
an older version of the same file.

A batch goes through these steps, each for the whole batch; small files share the cost:

1. choose names, looking at what is there (``naming.py``);
2. mode, mtime and mark on each partial, then fsync it (``finishing.py``);
3. the ledger: intents (tid, name, inode);
4. rename (``renaming.py``);
5. fsync each directory;
6. the ledger: published.

Killed before 3: at start the partials are durable ones that go on, or are removed and read again;
their offsets weren't committed. After 3: ``settlement.py`` finds each intent's inode under its
final name (published), in ``.kfd`` (renamed then), or nowhere (read again). After 6: nothing is
left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Sequence

from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import Ledger, incoming, publications
from kfd.daemon.ledger.publications import Received
from kfd.daemon.messageids import Message, about, first_of
from kfd.daemon.publishing.complete import Complete
from kfd.daemon.publishing.destination import Destination, Directories
from kfd.daemon.publishing.finishing import Finishing, Planned, Ready, Refused, Rules
from kfd.daemon.publishing.holding import Bounds, make_durable, put_away
from kfd.daemon.publishing.naming import Naming, Plan, Rejection
from kfd.daemon.publishing.partials import DiskError, Partials
from kfd.daemon.publishing.renaming import Renaming
from kfd.daemon.publishing.settlement import settle
from kfd.paths import escape

log = logging.getLogger(__name__)


class Publisher:
    """Publishes the batches of one consumer thread, in that thread."""

    def __init__(
        self,
        rules: Rules,
        naming: Naming,
        destination: Destination,
        partials: Partials,
        ledger: Ledger,
        assigned: Container[int],
        bounds: Bounds,
    ) -> None:
        """``assigned`` holds the partitions of which this thread may publish, as of now; ``bounds``
        is what may be held of all that can't be published."""
        self._route = rules.route
        self._naming = naming
        self._finishing = Finishing(rules, destination, partials)
        self._renaming = Renaming(destination, partials, ledger)
        self._destination = destination
        self._partials = partials
        self._ledger = ledger
        self._assigned = assigned
        self._bounds = bounds

    def publish(self, batch: Sequence[Complete]) -> list[Complete]:
        """Publish, reject or skip each; those that are over now, and on record.

        The others are of partitions that were lost meanwhile. Raises :class:`DiskError`; then
        some may be published or intended to be: :meth:`recover`, and :meth:`ended` tells.
        """
        over: list[Complete] = []
        for group in _without_repeats(batch):
            try:
                with self._destination.directories() as directories:
                    over += self._publish_group(group, directories)
            except OSError as error:
                raise DiskError(error, self._destination.directory) from error
        return over

    def ended(self, batch: Sequence[Complete]) -> list[Complete]:
        """Those that are on record as over."""
        keys = [(one.topic_id, one.partition, one.transfer.tid) for one in batch]
        closed = incoming.closed_among(self._ledger.reader(), self._route, keys)
        return [one for one, key in zip(batch, keys, strict=True) if key in closed]

    def recover(self, partitions: Container[int]) -> None:
        """After a :class:`DiskError`, before partials are discarded: settle what was intended.

        Raises :class:`DiskError` as long as the disk fails.
        """
        settle(self._route, self._destination, self._ledger, partitions)

    def reject(self, rejected: Sequence[Refused]) -> list[Complete]:
        """Put on record that transfers ended unpublished, and drop their partials."""
        return self._reject(rejected, keep=None)

    def _set_aside(self, rejected: Sequence[Refused]) -> list[Complete]:
        """As :meth:`reject`, for what is whole: what it holds is kept in quarantine."""
        limit = self._bounds.size
        keys = [
            one.key
            for one, why in rejected
            if why.state == "quarantined" and one.transfer.begin.size <= limit
        ]
        make_durable(self._partials, self._destination, keys)
        return self._reject(rejected, keep=limit)

    def _reject(self, rejected: Sequence[Refused], keep: int | None) -> list[Complete]:
        """``keep``: bytes that quarantine may hold; None: nothing of these."""
        if not rejected:
            return []
        rows = [(one.received(self._route), why.state, why.reason) for one, why in rejected]
        held = self._ledger.write_patiently(lambda db: publications.reject(db, rows, keep))
        reach("reject.recorded")
        kept = [one.key for (one, _), is_held in zip(rejected, held, strict=True) if is_held]
        put_away(self._destination, kept)
        for one, why in rejected:
            self._partials.discard(one.key)
            _log_rejected(self._route, one, why)
        return [one for one, _ in rejected]

    def _publish_group(self, group: Sequence[Complete], directories: Directories) -> list[Complete]:
        planned, rejected = self._plan(group, directories)
        ready, refused = self._finishing.finish(planned)
        rejected += refused
        renamed: list[Complete] = []
        if ready:
            self._intend(ready)
            renamed, refused = self._rename(ready, directories)
            rejected += refused
        return renamed + self._set_aside(rejected)

    def _plan(
        self, group: Sequence[Complete], directories: Directories
    ) -> tuple[list[Planned], list[Refused]]:
        planned: list[Planned] = []
        rejected: list[Refused] = []
        newest = self._naming.newest([(one.topic_id, one.transfer.begin) for one in group])
        for one in group:
            begin = one.transfer.begin
            before = newest.get((one.topic_id, begin.origin, begin.path))
            plan = self._naming.plan(one.transfer, before, directories)
            if isinstance(plan, Plan):
                planned.append((one, plan))
            else:
                rejected.append((one, plan))
        return planned, rejected

    def _intend(self, ready: Sequence[Ready]) -> None:
        records = [record for _, _, record in ready]
        self._ledger.write_patiently(lambda db: publications.intend(db, records))
        reach("publish.intended")

    def _rename(
        self, ready: Sequence[Ready], directories: Directories
    ) -> tuple[list[Complete], list[Refused]]:
        """Rename what is ready: what is published now, and what can't be.

        On a failing disk the intents stay in the ledger, for :meth:`recover`.
        """
        done: list[tuple[Complete, Received]] = []
        skipped: list[Received] = []
        refused: list[Refused] = []
        for one, plan, record in ready:
            if one.partition not in self._assigned:
                skipped.append(record)
                continue
            try:
                done.append((one, self._renaming.rename(one.key, plan, record, directories)))
            except OSError as error:
                refused.append(self._finishing.refusal(one, error))
        directories.sync()
        reach("publish.synced")
        self._conclude([record for _, record in done], skipped)
        for one, _ in done:
            self._partials.forget(one.key)
        return [one for one, _ in done], refused

    def _conclude(self, published: Sequence[Received], skipped: Sequence[Received]) -> None:
        self._ledger.write_patiently(lambda db: publications.conclude(db, published, skipped))
        reach("publish.concluded")
        _log_published(self._route, published)


def _log_published(route: str, published: Sequence[Received]) -> None:
    """One line a batch: the ledger tells of each file, the log of what is going on."""
    if published:
        size = sum(record.begin.size for record in published)
        transfers = [(record.tid, record.begin.path) for record in published]
        told = about(Message.PUBLISHED, route=route, transfers=transfers)
        names = first_of([record.name for record in published])
        log.info("published %s (%d bytes)", names, size, extra=told)


def _log_rejected(route: str, one: Complete, why: Rejection) -> None:
    level = logging.INFO if why.state == "superseded" else logging.WARNING
    path = one.transfer.begin.path
    told = about(Message[why.state.upper()], route=route, transfers=[(one.transfer.tid, path)])
    log.log(level, "%s %s: %s", why.state, escape(path), why.reason, extra=told)


def _without_repeats(batch: Sequence[Complete]) -> Iterator[list[Complete]]:
    """The batch in pieces, none of which has two versions of one file, or one name twice."""
    group: list[Complete] = []
    seen: set[bytes] = set()
    for one in batch:
        path = one.transfer.begin.path
        if path in seen:
            yield group
            group, seen = [], set()
        group.append(one)
        seen.add(path)
    if group:
        yield group
