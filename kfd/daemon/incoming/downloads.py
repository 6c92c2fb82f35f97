"""The receiving half of the daemon: consumers, and what they need for each route.

Routes come, change and go while the others are received: :meth:`Downloads.prepare` does all that
can fail, changing nothing; :meth:`Downloads.retire` stops what goes, :meth:`Downloads.take` starts
what comes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kfd.config import Config, Download
from kfd.config.groups import gid_of
from kfd.daemon.context import Context
from kfd.daemon.incoming.beginnings import Beginnings
from kfd.daemon.incoming.consumer import ConsumerThread
from kfd.daemon.incoming.membership import Assignment, Membership, max_poll_seconds, session_seconds
from kfd.daemon.incoming.pulse import Pulse
from kfd.daemon.incoming.receiver import Receiver
from kfd.daemon.incoming.space import Claims, Space
from kfd.daemon.incoming.terms import Terms
from kfd.daemon.publishing.destination import Destination
from kfd.daemon.publishing.finishing import Rules
from kfd.daemon.publishing.holding import Bounds
from kfd.daemon.publishing.naming import Naming
from kfd.daemon.publishing.partials import Partials, sweep
from kfd.daemon.publishing.publisher import Publisher
from kfd.daemon.publishing.settlement import settle, settle_releases
from kfd.daemon.stage import DeathHandler
from kfd.daemon.throttle import Throttle
from kfd.errors import KfdError, all_of
from kfd.transfer import OpenTransfer
from kfd.unit import restart

RETIRE_SECONDS = 20.0  # for consumers that go: publish what is complete, commit, leave


@dataclass(slots=True)
class DownloadRoute:
    """A download route while the daemon runs."""

    config: Download
    group: int  # gid of what is published; -1: the daemon's
    destination: Destination
    consumers: list[ConsumerThread]

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return any(consumer.stopping.is_set() for consumer in self.consumers)

    @property
    def stuck(self) -> bool:
        """Whether it doesn't end, though it was told to."""
        return self.stopped and any(consumer.alive for consumer in self.consumers)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the threads of one route share."""

    destination: Destination
    throttle: Throttle
    beginnings: Beginnings
    claims: Claims  # of all routes
    pulse: Pulse  # of the process
    bounds: Bounds  # of what all routes hold in quarantine


@dataclass(frozen=True, slots=True)
class ComingDownloads:
    """The routes that are to be. ``new`` are those that don't run yet as they will, by name;
    ``taken`` the directories of theirs that were taken for this."""

    routes: Mapping[str, Download]
    new: Mapping[str, DownloadRoute]
    taken: tuple[Destination, ...]


class Downloads:
    """Owns the destinations and the consumer pool.

    ``routes`` is replaced as a whole, never changed: others look names up in what they find.
    """

    def __init__(self, context: Context) -> None:
        self.routes: Mapping[str, DownloadRoute] = {}
        self._context = context
        # half a session, so that it is noticed before others have the partitions
        self._pulse = Pulse(session_seconds(context.properties) / 2)
        self._claims = Claims()
        self.quarantine = Bounds()

    def use(self, config: Config) -> None:
        """Go by what a configuration says of all routes together."""
        self.quarantine.size = config.quarantine_max
        self.quarantine.history = config.history

    def consumers(self) -> list[ConsumerThread]:
        """All threads of all routes."""
        return [consumer for route in self.routes.values() for consumer in route.consumers]

    def receiving(self) -> Iterator[tuple[str, OpenTransfer]]:
        """What is being put together, with its route. Any thread."""
        for name, route in self.routes.items():
            for consumer in route.consumers:
                for transfer in consumer.receiving:
                    yield name, transfer

    # Routes come, change and go

    def prepare(self, config: Config) -> ComingDownloads:
        """Take the directories that are new, settle what was interrupted there, and make ready.

        Called with the ledger running. Raises :class:`ConfigError`,
        :class:`PermissionProblemError` or :class:`DiskError`, with all faults at once; then nothing
        has changed.
        """
        taken: list[Destination] = []
        new: dict[str, DownloadRoute] = {}
        faults: list[KfdError] = []
        shares = _shares(config.pools.consumer_threads, len(config.downloads))
        for (name, route), share in zip(config.downloads.items(), shares, strict=True):
            # of the peer's files each partition has a part: one thread reads all
            threads = share if route.format == "kfd" else 1
            if self._goes_on(route):
                continue
            try:
                new[name] = self._new_route(config, route, threads, taken)
            except KfdError as error:
                faults.append(error)
        coming = ComingDownloads(config.downloads, new, tuple(taken))
        if faults:
            self.abandon(coming)
            raise all_of(faults)
        return coming

    def abandon(self, coming: ComingDownloads) -> None:
        """Nothing comes of it: let go of the directories that were taken, and are no route's."""
        used = [route.destination for route in self.routes.values()]
        for destination in coming.taken:
            if destination not in used:
                destination.close()

    def retire(self, coming: ComingDownloads) -> None:
        """Stop the routes that go or change; what is complete is published and committed.

        Raises :class:`StuckError` for consumers that don't end.
        """
        going = [route for name, route in self.routes.items() if _goes(name, route, coming)]
        for route in going:
            for consumer in route.consumers:
                consumer.stop()
        deadline = time.monotonic() + RETIRE_SECONDS
        stuck = [
            consumer.name
            for route in going
            for consumer in route.consumers
            if not consumer.join(deadline - time.monotonic())
        ]
        if stuck:
            raise StuckError(
                f"{', '.join(stuck)}: no end after {RETIRE_SECONDS:g} s",
                fix=f"see to the disk of its directory, then: {restart()}",
            )

    def take(self, coming: ComingDownloads, on_death: DeathHandler) -> None:
        """Let the routes be those of ``coming``, after :meth:`retire`; start their consumers.

        Raises :class:`DiskError` where a directory that was in use already can't be settled.
        """
        before = self.routes
        for route in coming.new.values():
            if route.destination not in coming.taken:
                self._settle(route)
        self.routes = {
            name: coming.new[name] if name in coming.new else before[name] for name in coming.routes
        }
        for route in before.values():
            if self.routes.get(route.config.name) is not route:
                self._leave(route)
        for route in coming.new.values():
            self._want(route.config)
            if not self._pulse.alive:
                self._pulse.start(on_death)
            for consumer in route.consumers:
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

    def _new_route(
        self, config: Config, route: Download, threads: int, taken: list[Destination]
    ) -> DownloadRoute:
        group = gid_of(config, route)
        destination = self._in_use(route)
        if destination is None:
            destination = _destination(route, group, self._context)
            taken.append(destination)
        shared = Shared(
            destination,
            Throttle(),
            Beginnings(route.name, self._context.ledger),
            self._claims,
            self._pulse,
            self.quarantine,
        )
        consumers = [
            _consumer(route, group, number, shared, self._context)
            for number in range(1, threads + 1)
        ]
        consumers[0].check()
        return DownloadRoute(route, group, destination, consumers)

    def _goes_on(self, route: Download) -> bool:
        """Whether it runs as it will, or is stuck: two may not write in one directory."""
        running = self.routes.get(route.name)
        if running is None:
            return False
        return running.stuck or (running.config == route and not running.stopped)

    def _in_use(self, route: Download) -> Destination | None:
        """The directory, if it is a route's already: it stays locked while they change places."""
        for one in self.routes.values():
            if one.config.directory == route.directory and one.destination.is_current():
                return one.destination
        return None

    def _settle(self, route: DownloadRoute) -> None:
        """Make a directory that other consumers have left fit for these."""
        config, destination = route.config, route.destination
        destination.adopt(mode=config.directory_mode, group=route.group)
        settle(config.name, destination, self._context.ledger)
        sweep(destination, config.topic, time.time() - config.incomplete_timeout)

    def _want(self, route: Download) -> None:
        topics = self._context.topics
        topics.want_to_read(route.topic, route.name, 2 * route.incomplete_timeout)
        topics.want_receipts(route.topic, route.name, sending=True)

    def _leave(self, route: DownloadRoute) -> None:
        """What a route that goes, or makes place for itself changed, leaves behind."""
        config, health = route.config, self._context.health
        self._context.topics.retract(config.topic, config.name, sending=False)
        self._context.topics.retract_receipts(config.topic, config.name, sending=True)
        for consumer in route.consumers:
            health.clear(config.name, consumer.name)
            health.clear(config.name, f"space {consumer.name}")
        health.clear(config.name, "disk")
        if all(one.destination is not route.destination for one in self.routes.values()):
            route.destination.leave()


class StuckError(KfdError):
    """Consumers that were stopped don't end: the disk that they write to hangs."""


def _goes(name: str, route: DownloadRoute, coming: ComingDownloads) -> bool:
    return name not in coming.routes or (name in coming.new and coming.new[name] is not route)


def _destination(route: Download, group: int, context: Context) -> Destination:
    """The route's directory, ours, with nothing left half but what can be gone on with."""
    ledger = context.ledger
    destination = Destination(
        route.directory,
        mode=route.directory_mode,
        group=group,
        owner=f"{ledger.origin}, ledger {ledger.instance.hex()}",
    )
    try:
        settle(route.name, destination, ledger)
        settle_releases(route.name, destination, ledger)
        sweep(destination, route.topic, time.time() - route.incomplete_timeout)
    except BaseException:
        destination.close()
        raise
    return destination


def _consumer(
    route: Download, group: int, number: int, shared: Shared, context: Context
) -> ConsumerThread:
    """One thread of a route, with all that is its own."""
    ledger = context.ledger
    destination = shared.destination
    partials = Partials(destination)
    rules = Rules(route.name, route.file_mode, group, route.meta)
    naming = Naming(route.name, route.layout, ledger)
    space = Space(destination, route.min_free, shared.claims)
    assignment = Assignment(max_poll_seconds(context.properties), shared.pulse)
    publisher = Publisher(
        *(rules, naming, destination, partials, ledger, assignment), shared.bounds
    )
    mixed = route.format != "kfd"
    terms = Terms(route.name, route.topic, route.max_size, route.incomplete_timeout, mixed)
    receiver = Receiver(terms, ledger, partials, publisher, space, shared.throttle)
    member = f"{ledger.origin}-{ledger.instance.hex()[:8]}-{route.name}-{number}"
    return ConsumerThread(
        f"consumer-{route.name}-{number}",
        Membership(
            *(route.name, route.topic, route.group, member, route.start),
            whole=context.properties.get("group.protocol") != "consumer",
            alone=mixed,
        ),
        receiver,
        assignment,
        shared.beginnings,
        context,
    )


def _shares(threads: int, routes: int) -> list[int]:
    """The pool dealt out to the routes as evenly as can be; each has at least one."""
    return [max(1, threads // routes + (n < threads % routes)) for n in range(routes)]
