"""What a kill between an intent and its record left behind: each intended rename is brought to
its end, or is void and read again from Kafka.

An intent says which inode was to get which name. It has the name (published), it is still a partial
(renamed now, if the name is free), or it is neither (void).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container

from kfd.daemon.crashpoint import reach
from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger import Ledger, publications
from kfd.daemon.ledger.publications import Intent
from kfd.daemon.publishing.destination import Destination, Directories, PartKey
from kfd.daemon.publishing.mark import Mark, lineage
from kfd.daemon.publishing.naming import look
from kfd.daemon.publishing.partials import DISK_ERRORS, DiskError

log = logging.getLogger(__name__)


def settle(
    route: str, destination: Destination, ledger: Ledger, partitions: Container[int] | None = None
) -> None:
    """Bring renames that were intended (of these partitions; None: of all) to their end.

    Called while nobody publishes what is of them. Raises :class:`DiskError`.
    """
    published: list[Intent] = []
    void: list[Intent] = []
    try:
        with destination.directories() as directories:
            for intent in publications.intents(ledger.reader(), route):
                if partitions is None or intent.partition in partitions:
                    done = _settle_one(intent, destination, directories)
                    (published if done else void).append(intent)
            directories.sync()
            reach("settle.done")
    except OSError as error:
        raise DiskError(error, destination.directory) from error
    if published or void:
        ledger.write_patiently(lambda db: publications.settle(db, route, published, void))
        reach("settle.recorded")
        log.info(
            "%s: of the publications that were interrupted, %d are done and %d are read again",
            *(route, len(published), len(void)),
        )


def _settle_one(intent: Intent, destination: Destination, directories: Directories) -> bool:
    """Whether the intended file has its final name now."""
    parent, _, base = intent.name.rpartition(b"/")
    key = PartKey(intent.tid, intent.partition)
    try:
        directory = directories.open(parent, create=True)
        done = _has_its_name(intent, key, directory, base, destination)
        if done:
            directories.changed_way(parent)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        return False
    return done


def _has_its_name(
    intent: Intent, key: PartKey, directory: int, base: bytes, destination: Destination
) -> bool:
    there = look(directory, base)
    part = destination.part_status(key)
    if there is not None and _is_intended(intent, there[0]):
        # an exchange may have brought out what somebody changed in the last moment
        if part is None or _is_intended(intent, part) or _was_older(intent, destination, key):
            return True
        destination.exchange(key, directory, base)
        return False
    if part is None or not _is_intended(intent, part):
        return False
    if there is None:
        destination.publish_new(key, directory, base)
        return True
    return False  # read again, and planned anew


def _is_intended(intent: Intent, status: os.stat_result) -> bool:
    return (intent.device, intent.inode) == (status.st_dev, inode_of(status))


def _was_older(intent: Intent, destination: Destination, key: PartKey) -> bool:
    """Whether what has the partial's name is the older version that was replaced."""
    displaced = look(destination.private, key.name)
    return displaced is not None and _is_older(intent, *displaced)


def _is_older(intent: Intent, status: os.stat_result, mark: Mark | None) -> bool:
    return (
        mark is not None
        and mark.lineage == lineage(intent.topic, intent.origin, intent.path)
        and mark.generation < intent.generation
        and mark.fits(status)
    )
