"""The receiving half of the daemon: consumers, and what they need for each route."""

from __future__ import annotations

import grp
import os
import time
from dataclasses import dataclass

from kfd.config import Config, Download
from kfd.daemon.badrecords import Throttle
from kfd.daemon.beginnings import Beginnings
from kfd.daemon.consumer import ConsumerThread
from kfd.daemon.context import Context
from kfd.daemon.destination import Destination
from kfd.daemon.ledger import Ledger
from kfd.daemon.membership import Assignment, Membership, max_poll_seconds, session_seconds
from kfd.daemon.naming import Naming
from kfd.daemon.partials import Partials, sweep
from kfd.daemon.publisher import Publisher, Rules
from kfd.daemon.pulse import Pulse
from kfd.daemon.receiver import Receiver, Terms
from kfd.daemon.settlement import settle
from kfd.daemon.space import Claims, Space
from kfd.daemon.stage import DeathHandler
from kfd.errors import ConfigError


@dataclass(slots=True)
class DownloadRoute:
    """A download route while the daemon runs."""

    config: Download
    destination: Destination
    consumers: list[ConsumerThread]


@dataclass(frozen=True, slots=True)
class Shared:
    """What the threads of one route share."""

    destination: Destination
    throttle: Throttle
    beginnings: Beginnings
    claims: Claims  # of all routes
    pulse: Pulse  # of the process


class Downloads:
    """Owns the destinations and the consumer pool."""

    def __init__(self, config: Config, context: Context) -> None:
        """Take the directories of all routes and settle what was interrupted there.

        Called with the ledger running. Raises :class:`ConfigError`,
        :class:`PermissionProblemError`, or :class:`DiskError`.
        """
        self.routes: dict[str, DownloadRoute] = {}
        # half a session, so that it is noticed before others have the partitions
        self._pulse = Pulse(session_seconds(context.properties) / 2)
        claims = Claims()
        shares = _shares(config.pools.consumer_threads, len(config.downloads))
        for (name, route), threads in zip(config.downloads.items(), shares, strict=True):
            destination = _destination(config, route, context.ledger)
            context.topics.want_to_read(route.topic, name, 2 * route.incomplete_timeout)
            context.topics.want_receipts(route.topic, name, sending=True)
            beginnings = Beginnings(name, context.ledger)
            shared = Shared(destination, Throttle(), beginnings, claims, self._pulse)
            consumers = [
                _consumer(route, number, shared, context) for number in range(1, threads + 1)
            ]
            consumers[0].check()
            self.routes[name] = DownloadRoute(route, destination, consumers)

    def consumers(self) -> list[ConsumerThread]:
        """All threads of all routes."""
        return [consumer for route in self.routes.values() for consumer in route.consumers]

    def start(self, on_death: DeathHandler) -> None:
        """Start every consumer."""
        if self.routes:
            self._pulse.start(on_death)
        for consumer in self.consumers():
            consumer.start(on_death)

    def stop(self, deadline: float) -> None:
        """Let every consumer publish what is complete, commit and leave, by ``deadline``."""
        for consumer in self.consumers():
            consumer.stop()
        for route in self.routes.values():
            ended = [one.join(deadline - time.monotonic()) for one in route.consumers]
            if all(ended):  # else one still uses the directory's descriptors
                route.destination.close()
        self._pulse.stop()
        self._pulse.join(deadline - time.monotonic())


def _destination(config: Config, route: Download, ledger: Ledger) -> Destination:
    """The route's directory, ours, with nothing left half but what can be gone on with."""
    destination = Destination(
        route.directory,
        mode=route.directory_mode,
        group=_gid(route, config.where("downloads", route.name, "owner_group")),
        owner=f"{ledger.origin}, ledger {ledger.instance.hex()}",
    )
    settle(route.name, destination, ledger)
    sweep(destination, route.topic, time.time() - route.incomplete_timeout)
    return destination


def _consumer(route: Download, number: int, shared: Shared, context: Context) -> ConsumerThread:
    """One thread of a route, with all that is its own."""
    ledger = context.ledger
    destination = shared.destination
    partials = Partials(destination)
    rules = Rules(route.name, route.file_mode, destination.group)
    naming = Naming(route.name, route.layout, ledger)
    space = Space(destination, route.min_free, shared.claims)
    assignment = Assignment(max_poll_seconds(context.properties), shared.pulse)
    publisher = Publisher(rules, naming, destination, partials, ledger, assignment)
    terms = Terms(route.name, route.topic, route.max_size, route.incomplete_timeout)
    receiver = Receiver(terms, ledger, partials, publisher, space, shared.throttle)
    member = f"{ledger.origin}-{ledger.instance.hex()[:8]}-{route.name}-{number}"
    return ConsumerThread(
        f"consumer-{route.name}-{number}",
        Membership(
            *(route.name, route.topic, route.group, member, route.start),
            whole=context.properties.get("group.protocol") != "consumer",
        ),
        receiver,
        assignment,
        shared.beginnings,
        context,
    )


def _shares(threads: int, routes: int) -> list[int]:
    """The pool dealt out to the routes as evenly as can be; each has at least one."""
    return [max(1, threads // routes + (n < threads % routes)) for n in range(routes)]


def _gid(route: Download, place: str) -> int:
    """The gid of ``owner_group``; -1 where none is configured."""
    if route.owner_group is None:
        return -1
    try:
        gid = grp.getgrnam(route.owner_group).gr_gid
    except KeyError as error:
        raise ConfigError(
            f"downloads.{route.name}.owner_group: no group {route.owner_group} on this host",
            where=place,
            fix=f"groupadd {route.owner_group}",
        ) from error
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        raise ConfigError(
            f"downloads.{route.name}.owner_group: kfd is not a member of {route.owner_group}",
            where=place,
            fix=f"systemctl edit kfd -> [Service] SupplementaryGroups={route.owner_group}",
        )
    return gid
