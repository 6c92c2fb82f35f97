"""kfd as a side, as a user runs it: the installed programs, a ledger, the watcher, every fsync."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfd.control import (
    DaemonState,
    DownloadRoute,
    GetStatusParameters,
    GetStatusReply,
    Status,
    UploadRoute,
)
from kfd.ctl.client import connect
from kfd.errors import KfdError
from scripts.benchmark.data import Files
from scripts.benchmark.kafka import PRODUCER
from scripts.benchmark.latency import latencies
from scripts.benchmark.plain import Plain, check_published
from scripts.benchmark.process import Process, Usage, wait_for
from scripts.benchmark.side import Site, Timing, settle_disk

CONSUMERS = 5  # kfd's default
POLL_SECONDS = 0.1  # between looks at the status; when it ended is told by the ledger
AWAY_SECONDS = 10.0  # for which the broker is away once all files wait


def program(name: str) -> Path:
    """One of kfd's programs, in the environment that runs the benchmark."""
    return Path(sys.executable).with_name(name)


class Daemon(Process):
    """A ``kfd`` process that answers."""

    def __init__(self, home: Path, name: str, bootstrap: str, **settings: Any) -> None:
        # not in home: the name of a Unix socket has at most 107 bytes
        self._sockets = tempfile.TemporaryDirectory(prefix="kfd-bench-")
        self.socket = Path(self._sockets.name) / "kfd.sock"
        config = home / f"{name}.yaml"  # JSON is YAML
        config.write_text(
            json.dumps({"kafka": {"bootstrap.servers": bootstrap, **PRODUCER}, **settings})
        )
        command = [program("kfd"), "--config", config, "--state", home / f"{name}-state"]
        super().__init__([*command, "--socket", self.socket], home / f"{name}.log")

    def prepare(self) -> None:
        wait_for("kfd to answer", self._answers)

    def end(self, number: int) -> None:
        super().end(number)
        self._sockets.cleanup()

    def status(self) -> Status:
        """What ``kfdctl status`` shows."""
        with connect(self.socket, 10) as client:
            return client.call(GetStatusParameters(), GetStatusReply).status

    def wait(self, reached: Callable[[Status], float | None]) -> float:
        """The time that ``reached`` gives, once it gives one; one connection for all looks."""
        with connect(self.socket, 10) as client:

            def look() -> float | None:
                self.check()
                return reached(client.call(GetStatusParameters(), GetStatusReply).status)

            return wait_for("kfd", look, POLL_SECONDS)

    def _answers(self) -> bool:
        self.check()
        try:
            return self.status().state is not DaemonState.STARTING  # it has no routes until then
        except KfdError:
            return False


class Sender(Daemon):
    """A daemon that watches a directory, and has sent a file, so that all is connected."""

    def __init__(
        self, home: Path, bootstrap: str, topic: str, wire: str = "kfd", **settings: Any
    ) -> None:
        self._home = home
        self.watched = home / "watched"
        self.watched.mkdir()
        route = {"directory": str(self.watched), "topic": topic, "format": wire}
        super().__init__(home, "sender", bootstrap, uploads={"bench": route}, **settings)

    def prepare(self) -> None:
        super().prepare()
        (self.watched / "first").write_bytes(b"x")
        self.wait_in_kafka(0)

    def take(self, files: Files) -> float:
        """Rename a directory with these files into the watched one; when that was."""
        staged = self._home / "staged"
        files.link_into(staged)
        settle_disk()
        began = time.time()
        staged.rename(self.watched / "files")
        return began

    def wait_in_kafka(self, count: int) -> float:
        """When so many files, besides the first, were in Kafka, as the ledger noted it."""
        return self.wait(lambda status: _in_kafka(status.uploads[0], count + 1))

    def wait_waiting(self, count: int) -> None:
        """Until the ledger has so many files, besides the first, in whatever state."""
        wait_for("files in the ledger", lambda: _known(self.status().uploads[0]) == count + 1)


def _in_kafka(route: UploadRoute, count: int) -> float | None:
    return route.last_at if route.in_kafka + route.delivered == count else None


def _known(route: UploadRoute) -> int:
    return route.queued + route.sending + route.in_kafka + route.delivered


class Receiver(Daemon):
    """A daemon that publishes, all of whose consumers have their share of the topic."""

    def __init__(self, home: Path, site: Site, topic: str, wire: str = "kfd") -> None:
        self.published = home / "published"
        download = {
            "topic": topic,
            "directory": str(self.published),
            "layout": "{path}",
            "group": topic,
            "format": wire,
        }
        super().__init__(home, "receiver", site.broker.bootstrap, downloads={"bench": download})
        self._broker = site.broker
        self._group = topic
        self._consumers = CONSUMERS if wire == "kfd" else 1  # the other needs all partitions

    def prepare(self) -> None:
        super().prepare()
        self._broker.wait_for_group(self._group, self._consumers)

    def wait_published(self, count: int) -> float:
        """When so many files were published, as the ledger noted it."""
        return self.wait(lambda status: _published(status.downloads[0], count))


def _published(route: DownloadRoute, count: int) -> float | None:
    return route.last_at if route.published == count else None


class Kfd:
    """The daemon, with its defaults."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @property
    def may_stop_broker(self) -> bool:
        """Whether the broker is the benchmark's own."""
        return self._site.broker.own

    def upload(self, files: Files, chunk_size: int) -> Timing:
        """From the rename into the watched directory until the ledger says in-kafka."""
        with self._sender(chunk_size=f"{chunk_size}B") as sender:
            before = sender.usage()
            began = sender.take(files)
            ended = sender.wait_in_kafka(files.count)
            return Timing(ended - began, {"kfd": sender.usage().since(before)})

    def publish(self, files: Files) -> Timing:
        """From the commit that lets all records be read until the ledger says published."""
        filled_topic = Plain(self._site).filled_topic
        with self._site.home() as home, filled_topic(home, files) as (topic, filler):
            with Receiver(home, self._site, topic) as receiver:
                settle_disk()
                before = receiver.usage()
                began = time.time()
                filler.tell("commit")
                ended = receiver.wait_published(files.count)
                used = receiver.usage().since(before)
            check_published(files, receiver.published)
        return Timing(ended - began, {"kfd": used})

    def latency(self, count: int) -> tuple[list[float], dict[str, Usage]]:
        """Seconds from each close to its publication, a sending and a receiving daemon apart."""
        with (
            self._site.home() as home,
            self._site.broker.topic() as topic,
            Sender(home, self._site.broker.bootstrap, topic) as sender,
            Receiver(home, self._site, topic) as receiver,
        ):
            receiver.wait_published(1)
            seconds = latencies(sender.watched, receiver.published, count)
            return seconds, {"sender": sender.usage(), "receiver": receiver.usage()}

    def waiting(self, files: Files) -> Usage:
        """What a sender uses at most while the broker is away and all files wait.

        Afterwards the broker is started again and the files arrive, else there is no figure.
        """
        with self._sender() as sender:
            self._site.broker.stop()
            try:
                sender.take(files)
                sender.wait_waiting(files.count)
                time.sleep(AWAY_SECONDS)
                used = sender.usage()
            finally:
                self._site.broker.start()
            sender.wait_in_kafka(files.count)
            return used

    def kfdctl(self, arguments: list[str], runs: int) -> float:
        """Seconds that ``kfdctl`` takes as a whole process: the median of so many."""
        with self._sender() as sender:
            command = [str(program("kfdctl")), *arguments, "--socket", str(sender.socket)]
            return statistics.median(_seconds(command) for _ in range(runs))

    @contextmanager
    def _sender(self, **settings: Any) -> Iterator[Sender]:
        with (
            self._site.home() as home,
            self._site.broker.topic() as topic,
            Sender(home, self._site.broker.bootstrap, topic, **settings) as sender,
        ):
            yield sender


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
