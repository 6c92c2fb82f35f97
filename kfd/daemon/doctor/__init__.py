"""``kfdctl doctor``, tried inside the service: as its user, in its sandbox, with its connections.

No check changes anything that somebody uses, or is in the way of the data; each has a deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kfd.acls import grants, principal
from kfd.control.examination import AclsReply, Check
from kfd.daemon.context import Context
from kfd.daemon.doctor.clock import look_at_clock
from kfd.daemon.doctor.directories import look_at_download, look_at_upload, look_at_watches
from kfd.daemon.doctor.problems import look_at_problems
from kfd.daemon.doctor.rounds import Look, Rounds
from kfd.daemon.doctor.state import (
    look_at_configuration,
    look_at_ledger,
    look_at_receipts,
    look_at_secrets,
    look_at_socket,
)
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.reload import Reloader
from kfd.errors import KfdError
from kfd.examination.cluster import look_at_cluster
from kfd.kafka import ClusterView

LOOK_SECONDS = 5.0  # for an answer of the brokers
BROKERS_SECONDS = 120.0  # for all of them and the topics: each may be silent
_SHARE = "look at the share that it is on: is its server there?"
_BROKERS = "look at the brokers and the name service"


class Doctor:
    """Examines the daemon, once at a time. Called in the control server's threads."""

    def __init__(
        self,
        context: Context,
        downloads: Downloads,
        reloader: Reloader,
        state_directory: Path,
        socket_path: Path,
    ) -> None:
        self._context = context
        self._downloads = downloads
        self._reloader = reloader
        self._state_directory = state_directory
        self._socket_path = socket_path
        self._rounds = Rounds()
        self._busy = threading.Lock()

    def examine(self) -> Iterator[Check]:
        """All checks, as they are made. Raises :class:`KfdError` while another is under way."""
        if not self._busy.acquire(blocking=False):
            raise KfdError("doctor is at work already", fix="wait for it, then ask again")
        try:
            made = []
            for check in self._rounds.make(list(self._looks())):
                made.append(check)
                yield check
            yield from look_at_problems(self._context.health, made)
        finally:
            self._busy.release()

    def acls(self) -> AclsReply:
        """What Kafka's administrator has to grant for the configuration that runs."""
        properties = self._context.properties
        servers = properties["bootstrap.servers"]
        return AclsReply(principal(properties), servers, grants(self._reloader.config))

    def _looks(self) -> Iterator[Look]:
        context, config, path = self._context, self._reloader.config, self._reloader.path
        ledger = self._state_directory / "ledger.db"
        yield Look("configuration", partial(look_at_configuration, config, path, context))
        yield Look("secrets", partial(look_at_secrets, config, path))
        cluster = ClusterView(context.properties, LOOK_SECONDS)
        looking = partial(look_at_cluster, config, context.properties, cluster)
        yield Look("brokers", looking, BROKERS_SECONDS, _BROKERS)
        for upload in config.uploads.values():
            name = f"uploads.{upload.name}"
            yield Look(name, partial(look_at_upload, upload), hung=_SHARE)
        for name, route in self._downloads.routes.items():
            look = partial(look_at_download, route.config, route.destination)
            yield Look(f"downloads.{name}", look, hung=_SHARE)
        yield Look("inotify", look_at_watches)
        yield Look("clock", partial(look_at_clock, context.ledger, cluster), hung=_BROKERS)
        yield Look("ledger", partial(look_at_ledger, context.ledger, ledger), 30.0)
        yield Look("socket", partial(look_at_socket, self._socket_path, config.control_group))
        yield Look("receipts", partial(look_at_receipts, config))
