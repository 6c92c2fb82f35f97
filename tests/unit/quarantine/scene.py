"""A download route with a real directory and ledger, and what couldn't be published there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfd.config import Config, load
from kfd.daemon.context import Context
from kfd.daemon.health import Health
from kfd.daemon.incoming.downloads import DownloadRoute, Downloads
from kfd.daemon.ledger import Ledger, quarantine
from kfd.daemon.ledger.quarantine import Entry
from kfd.daemon.pauses import Pauses
from kfd.daemon.publishing.partials import sweep
from kfd.daemon.publishing.settlement import settle, settle_releases
from kfd.daemon.quarantine.keeper import Keeper
from kfd.daemon.quarantine.release import Release
from kfd.daemon.rates import Rates
from tests.parts import ROUTE, TOPIC, Receiving, Sent, receiving, running_ledger
from tests.unit.publishing.streams import Stream


class Scene:
    """What is in the way of ``below/run.trc`` is the file ``below``."""

    def __init__(self, parts: Receiving, home: Path, **keys: object) -> None:
        self.parts = parts
        self.ledger = parts.ledger
        self.stream = Stream(parts)
        self.blocker = parts.root / "below"
        config = _config(home, parts.root, **keys)
        self.route = DownloadRoute(config.downloads[ROUTE], -1, parts.destination, [])
        self.downloads = _downloads(config, parts.ledger)
        self.downloads.routes = {ROUTE: self.route}
        self.keeper = Keeper(self.downloads._context, self.downloads)

    def block(self) -> None:
        self.blocker.write_bytes(b"in the way")

    def unblock(self) -> None:
        self.blocker.unlink(missing_ok=True)

    def set_aside(self, *contents: bytes, path: bytes = b"below/run.trc") -> list[Sent]:
        """Files that arrive and can't get their name; for each content one, in their order."""
        self.block()
        sent = [
            Sent(content, path, generation=Sent(b"").generation + number)
            for number, content in enumerate(contents)
        ]
        for one in sent:
            self.stream.receive(one)
        return sent

    def entries(self) -> dict[bytes, Entry]:
        return {one.tid: one for one in quarantine.entries(self.ledger.reader(), None, 1000)}

    def entry(self, sent: Sent) -> Entry:
        return self.entries()[sent.tid]

    def release(self, sent: Sent, name: bytes | None = None) -> bytes:
        return Release(self.entry(sent), self.route, self.ledger).publish(name)

    def kept(self) -> dict[bytes, bytes]:
        """What lies in quarantine: tid and content."""
        place = self.parts.root / ".kfd" / "quarantine"
        files = list(place.iterdir()) if place.exists() else []
        return {bytes.fromhex(one.name.partition("-")[0]): one.read_bytes() for one in files}

    def modes(self) -> set[int]:
        """Of what lies there."""
        place = self.parts.root / ".kfd" / "quarantine"
        return {one.stat().st_mode & 0o777 for one in place.iterdir()}

    def receipts(self) -> int:
        return len(self.ledger.reader().execute("SELECT id FROM receipt").fetchall())

    def state(self, sent: Sent) -> str:
        (state,) = (
            self.ledger.reader()
            .execute("SELECT state FROM incoming WHERE tid = ?", (sent.tid,))
            .fetchone()
        )
        return str(state)


@contextmanager
def scene(home: Path, **keys: object) -> Iterator[Scene]:
    """A life of the daemon, begun as any: what was interrupted is settled first."""
    with (
        running_ledger(home / "state") as ledger,
        receiving(ledger, home / "data", take=False) as parts,
    ):
        settle(ROUTE, parts.destination, ledger)
        settle_releases(ROUTE, parts.destination, ledger)
        sweep(parts.destination, TOPIC, 0)
        parts._take(parts.receiver)
        made = Scene(parts, home, **keys)
        made.keeper._tidy()
        yield made


def _config(home: Path, directory: Path, **keys: object) -> Config:
    file = home / "kfd.yaml"
    min_free = keys.pop("min_free", "0B")
    own = "".join(f"{key}: {value}\n" for key, value in keys.items())
    file.write_text(
        "kafka: {bootstrap.servers: '127.0.0.1:1'}\n"
        f"downloads: {{{ROUTE}: {{topic: {TOPIC}, directory: {directory},"
        f" layout: '{{path}}', min_free: {min_free}}}}}\n{own}"
    )
    return load(file)


def _downloads(config: Config, ledger: Ledger) -> Downloads:
    """Without Kafka's client, which nothing here asks, and whose threads don't survive a fork."""
    nobody: Any = None
    downloads = Downloads(Context({}, ledger, nobody, nobody, Health(), Rates(), Pauses(ledger)))
    downloads.use(config)
    return downloads
