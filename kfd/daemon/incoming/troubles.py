"""What keeps a consumer thread from reading or writing, as ``status`` shows it until it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kfd.daemon.health import Health
from kfd.daemon.incoming.membership import Membership
from kfd.daemon.publishing.partials import DiskError
from kfd.units import human_size

RECOVERED_SECONDS = 3.0  # without an error of the client


class Troubles:
    """Of one thread, named ``name``."""

    def __init__(self, name: str, membership: Membership, health: Health) -> None:
        self._name = name
        self._route = membership.route
        self._topic = membership.topic
        self._health = health
        self._error_at = 0.0  # monotonic

    def reading(self, reason: str) -> None:
        """Kafka's client has an error."""
        self._error_at = time.monotonic()
        self._health.report(
            self._route,
            self._name,
            f"reading {self._topic}: {reason}",
            "look at the brokers' logs, at their ACLs for kfd, and for another daemon of this name",
        )

    def went_well(self) -> None:
        """One more step without an error; after a while of them it is over."""
        if time.monotonic() - self._error_at > RECOVERED_SECONDS:
            self._health.clear(self._route, self._name)

    def waiting(self, sizes: Sequence[int]) -> None:
        """Files of these sizes (bytes) wait for space; none: no more."""
        key = f"space {self._name}"
        if not sizes:
            self._health.clear(self._route, key)
            return
        files = "1 file waits" if len(sizes) == 1 else f"{len(sizes)} files wait"
        self._health.report(
            self._route, key,
            f"{files} for space: {human_size(sum(sizes))}, the smallest {human_size(min(sizes))}",
            "free space on the download's disk, or lower min_free",
        )  # fmt: skip

    def sharing(self, ours: int, partitions: int) -> None:
        """The group gives only some of the partitions to a route that needs all."""
        self._health.report(
            self._route, "group",
            f"only {ours} of {partitions} partitions of {self._topic} are this host's, and each has"
            " a part of openmsistream's files: nothing is read",
            f"give each host's downloads.{self._route} a group of its own, or let one host read",
        )  # fmt: skip

    def alone(self) -> None:
        """All partitions are this host's, or none."""
        self._health.clear(self._route, "group")

    def disk(self, error: DiskError) -> None:
        """Nothing can be written."""
        self._health.report(self._route, "disk", str(error), error.fix)

    def disk_is_back(self) -> None:
        """It can again."""
        self._health.clear(self._route, "disk")
