"""The supervisor: builds the daemon's parts, starts and ends them in order, and feeds systemd.

It runs in the main thread. Signal handlers only set flags. The order of the end is that of the
data's way, under one deadline; what isn't finished by then is in the ledger.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import kfd
from kfd.config import Config, in_order
from kfd.config.apart import check_apart
from kfd.control import DaemonState
from kfd.daemon import journal
from kfd.daemon.admission.spool import Spool
from kfd.daemon.answers import make_operations
from kfd.daemon.answers.measurements import Measurements
from kfd.daemon.answers.status import StatusReport
from kfd.daemon.backup import Backups
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.context import Context
from kfd.daemon.disposal.disposing import Disposing
from kfd.daemon.doctor import Doctor
from kfd.daemon.health import Health
from kfd.daemon.housekeeping import Housekeeper
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.ledger import Ledger
from kfd.daemon.life import Life
from kfd.daemon.messageids import Message, about
from kfd.daemon.metrics.endpoint import Endpoint
from kfd.daemon.notify import Notifier, watchdog_interval, watchdog_seconds
from kfd.daemon.outgoing.uploads import Uploads
from kfd.daemon.pauses import Pauses
from kfd.daemon.quarantine.keeper import Keeper
from kfd.daemon.rates import Rates
from kfd.daemon.receipts.confirmations import Confirmations
from kfd.daemon.receipts.sender import ReceiptSender
from kfd.daemon.reload import Parts, Reloader
from kfd.daemon.server.server import ControlServer
from kfd.daemon.stage import Stage
from kfd.daemon.topics.topics import TopicWatch
from kfd.daemon.watchdog import all_well, patience
from kfd.errors import ExitCode, KfdError, all_of
from kfd.kafka import ClusterView, RefusedPropertyError
from kfd.propertyfaults import property_faults
from kfd.wire import is_origin

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0  # for everything
FLUSH_SECONDS = 20.0  # of these, for records in flight
KILL_SECONDS = 10.0  # beyond these, until systemd kills what has not ended
READY_SECONDS = 10.0  # for watchers to watch; READY doesn't wait for a slow file system


class Supervisor:
    """One life of the daemon: :meth:`run` returns its exit code."""

    def __init__(
        self, config: Config, state_directory: Path, socket_path: Path, path: Path | None = None
    ) -> None:
        """``path`` is the configuration's file, for reloads; None where it came otherwise."""
        self._config = config
        self._path = path
        self._state_directory = state_directory
        self._socket_path = socket_path
        self._notifier = Notifier()
        self._health = Health()
        self._life = Life()
        self._stages: list[Stage] = []  # judged by their heartbeats
        self._consumers: Callable[[], Sequence[Stage]] = tuple  # likewise; they come and go
        self._reloader: Reloader | None = None
        self._reload_requested = False
        self._wake = threading.Event()
        self._stop_requested = False
        self._signals = 0
        self._death: tuple[Stage, BaseException] | None = None
        self._endings: list[Callable[[float], None]] = []  # in the order of starting

    def run(self) -> int:
        """Start, work until told to stop, end. Raises :class:`KfdError` where it can't start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        try:
            self._start()
        except RefusedPropertyError as error:
            self._stop()
            faults = property_faults(self._config, self._config.kafka_properties())
            named = error.placed(self._config.where("kafka", error.name))
            raise all_of(in_order(faults or [named])) from error
        except BaseException:
            self._stop()
            raise
        self._supervise()
        self._life.reach(DaemonState.STOPPING)
        self._tell_status()
        self._notifier.stopping(STOP_SECONDS + KILL_SECONDS)
        log.info("stopping")
        self._stop()
        log.info("stopped", extra=about(Message.STOPPED))
        return self._exit_code()

    def _start(self) -> None:
        config, health = self._config, self._health
        properties = config.kafka_properties()
        ledger = Ledger(
            self._state_directory / "ledger.db",
            health,
            origin=config.origin,
            default=_default_origin(),
        )
        self._own(ledger)
        rates = Rates()
        spool = Spool(
            *(ledger, self._state_directory / "spool", config.spool_max, config.history),
            rates.moving,
        )
        self._own(spool)
        cluster = ClusterView(properties)
        servers = properties["bootstrap.servers"]
        topics = TopicWatch(cluster, health, create=config.create_topics, servers=servers)
        context = Context(
            *(properties, ledger, cluster, topics, health, rates, Pauses(ledger)), self._life
        )
        uploads = Uploads(config, context, FLUSH_SECONDS)
        check_apart(config)
        downloads = Downloads(context)
        downloads.use(config)
        coming = (uploads.prepare(config), downloads.prepare(config))
        housekeeper = Housekeeper(context, uploads, downloads, config.history)
        confirmations = Confirmations(context, config.uploads, uploads.requeued)
        disposing = Disposing(context, uploads.identity_of)
        catalogues = Catalogues(ledger, health, self._state_directory / "spool")
        report = StatusReport(context, uploads, downloads, spool, catalogues, self._state_directory)
        measurements = Measurements(ledger, report)
        endpoint = Endpoint(config.metrics, measurements.text, health)
        parts = Parts(
            *(context, uploads, downloads, disposing, confirmations, housekeeper, spool),
            *(endpoint, catalogues),
        )
        reloader = Reloader(parts, config, self._path, self._notifier, self._on_death)
        doctor = Doctor(context, downloads, reloader, self._state_directory, self._socket_path)
        keeper = Keeper(context, downloads)
        operations = make_operations(
            *(context, uploads, downloads, spool, keeper, catalogues, reloader, doctor, report),
            measurements,
            Backups(ledger, self._state_directory),
            self._request_stop,
        )
        server = ControlServer(
            *(self._socket_path, config.control_group, operations, kfd.__version__),
            at_thread_end=ledger.close_reader,
        )
        server.listen()
        for stage in (server, topics, ReceiptSender(context), confirmations):
            self._own(stage)
        self._own(housekeeper, judged=False)
        self._own(endpoint, judged=False)
        catalogues.apply(config, self._on_death)  # before anything is published
        self._endings += [catalogues.stop, disposing.stop, downloads.stop, uploads.stop]
        self._stages += uploads.stages()
        self._consumers = downloads.consumers
        downloads.take(coming[1], self._on_death)
        uploads.start(self._on_death)
        uploads.take(coming[0], self._on_death)
        disposing.apply(config.uploads, self._on_death)
        self._own(keeper, judged=False)
        self._own(reloader, judged=False)
        self._reloader = reloader
        uploads.wait_until_watching(READY_SECONDS)
        log.info(
            "kfd %s ready as %s: %d upload and %d download routes, control at %s",
            *(kfd.__version__, ledger.origin, len(config.uploads), len(config.downloads)),
            self._socket_path,
            extra=about(Message.STARTED),
        )
        self._life.reach(DaemonState.RUNNING)
        self._notifier.ready()

    def _own(self, stage: Stage, *, judged: bool = True) -> None:
        """Start a stage now, and end it after all that are started later. One that looks at files
        isn't ``judged`` by its heartbeat: it hangs with a share that hangs."""

        def end(deadline: float) -> None:
            stage.stop()
            if not stage.join(deadline - time.monotonic()):
                log.warning("%s did not end in time", stage.name)

        stage.start(self._on_death)
        if judged:
            self._stages.append(stage)
        self._endings.append(end)

    def _supervise(self) -> None:
        interval, hung = watchdog_interval(), patience(watchdog_seconds())
        while not self._stop_requested and self._death is None:
            self._wake.wait(interval)
            self._wake.clear()
            self._reload_if_asked()
            if all_well((*self._stages, *self._consumers()), self._health, hung):
                self._notifier.watchdog()
            self._tell_status()

    def _tell_status(self) -> None:
        """A line for ``systemctl status``: where it is in its life, and the oldest problem."""
        problems = [one.text for one in self._health.problems() if one.degrades]
        self._notifier.status(": ".join([self._life.state(degraded=bool(problems)), *problems[:1]]))

    def _reload_if_asked(self) -> None:
        if self._reload_requested and self._reloader is not None:
            self._reload_requested = False
            self._reloader.ask()  # it logs what comes of it

    def _stop(self) -> None:
        """End what was started, in reverse order, by one deadline."""
        deadline = time.monotonic() + STOP_SECONDS
        for end in reversed(self._endings):
            end(deadline)

    def _exit_code(self) -> int:
        if self._death is None:
            return ExitCode.DONE
        error = self._death[1]
        return error.exit_code if isinstance(error, KfdError) else ExitCode.BUG

    def _request_stop(self) -> None:
        self._stop_requested = True
        self._wake.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals += 1
        if self._signals > 1:
            os._exit(ExitCode.INTERRUPTED)  # the ledger is whole at any time
        self._request_stop()

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._reload_requested = True
        self._wake.set()

    def _on_death(self, stage: Stage, error: BaseException) -> None:
        """A stage died: so does the daemon, with the reason, and systemd starts it again."""
        if isinstance(error, KfdError):
            log.error("%s ended: %s", stage.name, error, extra=about(Message.STAGE_DIED))
        else:
            journal.bug(log, f"{stage.name} died", error, Message.STAGE_DIED)
        if self._death is None:
            self._death = (stage, error)
        self._wake.set()


def _default_origin() -> str:
    """The host's name, made fit to be an origin."""
    host = socket.gethostname().partition(".")[0]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in host)[:64]
    return name if is_origin(name) else "kfd"
