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
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import kfd
from kfd.config import Config
from kfd.config.values import KEEP
from kfd.daemon import journal
from kfd.daemon.answers import Answers
from kfd.daemon.confirmations import Confirmations
from kfd.daemon.context import Context
from kfd.daemon.downloads import Downloads
from kfd.daemon.health import Health
from kfd.daemon.housekeeping import Housekeeper
from kfd.daemon.ledger import Ledger, disposals
from kfd.daemon.notify import Notifier, watchdog_interval
from kfd.daemon.rates import Rates
from kfd.daemon.receiptsender import ReceiptSender
from kfd.daemon.roots import check_apart
from kfd.daemon.server import ControlServer
from kfd.daemon.stage import Stage
from kfd.daemon.thereafter import Thereafter
from kfd.daemon.topics import TopicWatch
from kfd.daemon.uploads import Uploads
from kfd.errors import ExitCode, KfdError
from kfd.kafka import ClusterView, RefusedPropertyError
from kfd.wire import is_origin

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0  # for everything
FLUSH_SECONDS = 20.0  # of these, for records in flight
READY_SECONDS = 10.0  # for watchers to watch; READY doesn't wait for a slow file system
HUNG_SECONDS = 300.0  # without a heartbeat a stage hangs, unless a disk is known to be in trouble


class Supervisor:
    """One life of the daemon: :meth:`run` returns its exit code."""

    def __init__(self, config: Config, state_directory: Path, socket_path: Path) -> None:
        self._config = config
        self._state_directory = state_directory
        self._socket_path = socket_path
        self._notifier = Notifier()
        self._health = Health()
        self._stages: list[Stage] = []
        self._wake = threading.Event()
        self._stop_requested = False
        self._signals = 0
        self._death: tuple[Stage, BaseException] | None = None
        self._endings: list[Callable[[float], None]] = []  # in the order of starting

    def run(self) -> int:
        """Start, work until told to stop, end. Raises :class:`KfdError` where it can't start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._start()
        except RefusedPropertyError as error:
            self._stop()
            raise error.placed(self._config.where("kafka", error.name)) from error
        except BaseException:
            self._stop()
            raise
        self._supervise()
        self._notifier.stopping()
        log.info("stopping")
        self._stop()
        log.info("stopped")
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
        cluster = ClusterView(properties)
        topics = TopicWatch(cluster, health, create=config.create_topics)
        context = Context(properties, ledger, cluster, topics, health, Rates())
        uploads = Uploads(config, context, FLUSH_SECONDS)
        check_apart(config)
        downloads = Downloads(config, context)
        answers = Answers(context, uploads, downloads, self._state_directory, self._request_stop)
        server = ControlServer(self._socket_path, config.control_group, answers, kfd.__version__)
        server.listen()
        housekeeper = Housekeeper(context, uploads, downloads, config.history)
        confirmations = Confirmations(context, config.uploads, uploads.requeued)
        thereafter = [
            Thereafter(route, context, uploads.identity_of(route.name))
            for route in config.uploads.values()
            if route.then != KEEP or route.name in disposals.routes(ledger.reader())
        ]
        looks_at_files: list[Stage] = [housekeeper, *thereafter]  # and hangs with a share
        for stage in (server, topics, ReceiptSender(context), confirmations, *looks_at_files):
            self._own(stage)
        self._stages = [one for one in self._stages if one not in looks_at_files]
        self._endings += [downloads.stop, uploads.stop]
        self._stages += [*uploads.stages(), *downloads.consumers()]
        downloads.start(self._on_death)
        uploads.start(self._on_death)
        uploads.wait_until_watching(READY_SECONDS)
        log.info(
            "kfd %s ready as %s: %d upload and %d download routes, control at %s",
            *(kfd.__version__, ledger.origin, len(config.uploads), len(config.downloads)),
            self._socket_path,
        )
        self._notifier.ready()

    def _own(self, stage: Stage) -> None:
        """Start a stage now, and end it after all that are started later."""

        def end(deadline: float) -> None:
            stage.stop()
            if not stage.join(deadline - time.monotonic()):
                log.warning("%s did not end in time", stage.name)

        stage.start(self._on_death)
        self._stages.append(stage)
        self._endings.append(end)

    def _supervise(self) -> None:
        interval = watchdog_interval()
        while not self._stop_requested and self._death is None:
            self._wake.wait(interval)
            self._wake.clear()
            if self._all_well():
                self._notifier.watchdog()
            problems = [one for one in self._health.problems() if one.degrades]
            self._notifier.status(f"degraded: {problems[0].text}" if problems else "running")

    def _all_well(self) -> bool:
        """Whether every stage shows life; one that waits for a disk in trouble need not."""
        now = time.monotonic()
        hung = [
            one.name for one in self._stages if now - one.last_beat > HUNG_SECONDS and one.alive
        ]
        if hung and not self._health.has("disk", "write", "endings"):
            log.error("no sign of life from: %s", ", ".join(hung))
            return False
        return True

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

    def _on_death(self, stage: Stage, error: BaseException) -> None:
        """A stage died: so does the daemon, with the reason, and systemd starts it again."""
        if isinstance(error, KfdError):
            log.error("%s ended: %s", stage.name, error)
        else:
            journal.bug(log, f"{stage.name} died", error)
        if self._death is None:
            self._death = (stage, error)
        self._wake.set()


def _default_origin() -> str:
    """The host's name, made fit to be an origin."""
    host = socket.gethostname().partition(".")[0]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in host)[:64]
    return name if is_origin(name) else "kfd"
