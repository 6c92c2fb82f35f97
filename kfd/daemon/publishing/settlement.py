"""What a kill between an intent and its record left behind: each intended rename is brought to
its end, or is void and read again from Kafka.

An intent says which inode was to get which name. It has the name (published), it is still a partial
(renamed now, if the name is free), or it is neither (void).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterable

from kfd.daemon.crashpoint import reach
from kfd.daemon.fileversion import inode_of
from kfd.daemon.ledger import Ledger, publications
from kfd.daemon.ledger.publications import Intent
from kfd.daemon.publishing.destination import Destination, Directories, HeldKey, PartKey
from kfd.daemon.publishing.holding import keep
from kfd.daemon.publishing.mark import Mark, lineage
from kfd.daemon.publishing.naming import look
from kfd.daemon.publishing.partials import DISK_ERRORS, DiskError

log = logging.getLogger(__name__)


def settle(
    route: str, destination: Destination, ledger: Ledger, partitions: Container[int] | None = None
) -> None:
    """Bring renames that were intended (of these partitions; None: of all) to their end, and
    contents that are to be held to their place.

    Called while nobody publishes what is of them. Raises :class:`DiskError`.
    """
    keep(route, destination, ledger, partitions)
    pending = publications.intents(ledger.reader(), route)
    mine = [
        one
        for one in pending
        if not one.held and (partitions is None or one.partition in partitions)
    ]
    done, void = _settle(route, destination, ledger, mine)
    if done or void:
        log.info(
            "%s: of the publications that were interrupted, %d are done and %d are read again",
            *(route, done, void),
        )


def settle_releases(route: str, destination: Destination, ledger: Ledger) -> None:
    """Bring releases from quarantine to their end. Called while nobody else releases anything.

    Raises :class:`DiskError`.
    """
    pending = publications.intents(ledger.reader(), route)
    if releases := [one for one in pending if one.held]:
        _settle(route, destination, ledger, releases)


def _settle(
    route: str, destination: Destination, ledger: Ledger, pending: Iterable[Intent]
) -> tuple[int, int]:
    """How many are published, and how many are not."""
    published: list[Intent] = []
    void: list[Intent] = []
    try:
        with destination.directories() as directories:
            for intent in pending:
                done = _settle_one(intent, destination, directories)
                (published if done else void).append(intent)
            directories.sync()
            reach("settle.done")
    except OSError as error:
        raise DiskError(error, destination.directory) from error
    if published or void:
        ledger.write_patiently(lambda db: publications.settle(db, route, published, void))
        reach("settle.recorded")
    return len(published), len(void)


def _settle_one(intent: Intent, destination: Destination, directories: Directories) -> bool:
    """Whether the intended file has its final name now."""
    parent, _, base = intent.name.rpartition(b"/")
    key = (HeldKey if intent.held else PartKey)(intent.tid, intent.partition)
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
