"""The rename that publishes a file: over nothing but an older version of it.

What somebody made or changed under its name since the plan was made stays, and the new file gets a
conflict name.
"""

from __future__ import annotations

import os
from dataclasses import replace

from kfd.daemon.crashpoint import reach
from kfd.daemon.ledger import Ledger, publications
from kfd.daemon.ledger.publications import Received
from kfd.daemon.publishing.destination import Destination, Directories, PartKey
from kfd.daemon.publishing.naming import Plan, is_same, look
from kfd.daemon.publishing.partials import Partials
from kfd.paths import conflict_name


class Renaming:
    """Of one consumer thread. Any method may raise :class:`OSError` or :class:`DiskError`."""

    def __init__(self, destination: Destination, partials: Partials, ledger: Ledger) -> None:
        self._destination = destination
        self._partials = partials
        self._ledger = ledger

    def rename(
        self, key: PartKey, plan: Plan, record: Received, directories: Directories
    ) -> Received:
        """Give a partial its name; the row as it is then. The directory isn't durable yet."""
        if plan.there is not None:
            self._partials.discard(key)
            return record
        base = plan.name.rpartition(b"/")[2]
        if not self._take_name(key, plan, base):
            return self._rename_aside(key, plan, record, directories)
        reach("publish.renamed")
        directories.changed(plan.directory)
        return record

    def _take_name(self, key: PartKey, plan: Plan, base: bytes) -> bool:
        """Whether the partial could be given the name that was planned for it."""
        if plan.replaces is not None:
            return self._replace(key, plan.directory, base, plan.replaces)
        return self._name(key, plan.directory, base)

    def _name(self, key: PartKey, directory: int, base: bytes) -> bool:
        """Give a partial a name that was free; false if it isn't any more."""
        try:
            self._destination.publish_new(key, directory, base)
        except FileExistsError:
            return False
        return True

    def _replace(self, key: PartKey, directory: int, base: bytes, older: os.stat_result) -> bool:
        """Put a partial in the place of ``older``; false if that isn't there any more as it was."""
        there = look(directory, base)
        if there is None:
            return self._name(key, directory, base)
        if not is_same(there[0], older):
            return False
        if not self._destination.exchange(key, directory, base):
            self._destination.publish_over(key, directory, base)
            return True
        reach("publish.exchanged")
        return self._look_at_displaced(key, directory, base, older)

    def _look_at_displaced(
        self, key: PartKey, directory: int, base: bytes, older: os.stat_result
    ) -> bool:
        """After an exchange, what came out has the partial's name: what somebody changed since
        the plan was made goes back. Killed before: ``settlement.settle`` does it."""
        displaced = self._destination.part_status(key)
        if displaced is not None and not is_same(displaced, older):
            self._destination.exchange(key, directory, base)
            reach("publish.exchanged-back")
            return False
        self._partials.discard(key)
        return True

    def _rename_aside(
        self, key: PartKey, plan: Plan, record: Received, directories: Directories
    ) -> Received:
        """Somebody made the name since it was chosen: theirs stays, ours gets a conflict name."""
        parent, _, base = plan.name.rpartition(b"/")
        other = conflict_name(base, record.tid)
        record = replace(record, name=parent + b"/" + other if parent else other)
        self._ledger.write_patiently(lambda db: publications.rename_intent(db, record))
        reach("publish.intended-aside")
        self._destination.publish_new(key, plan.directory, other)
        directories.changed(plan.directory)
        return record
