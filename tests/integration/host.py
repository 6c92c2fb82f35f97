"""A daemon with a directory to send from and one to receive into, both on one topic."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.integration.daemon import Daemon
from tests.integration.oracle import Tree, digest
from tests.support import eventually

_POWERS = "-dac_override,-dac_read_search,-fowner"
# inheritable as well: in some containers root inherits what it may do
POWERLESS = ["setpriv", "--inh-caps", _POWERS, "--bounding-set", _POWERS]
"""Makes a root daemon one for which the permissions of files count."""

LONG_AGO = 1_000_000_000  # seconds since the epoch


class Host(Daemon):
    """``up`` is sent by the route ``out``, ``down`` is what the route ``in`` received.

    The layout is ``{path}`` unless a test says otherwise, so that both trees are alike.
    ``versions`` are the contents that were ever put into ``up``, by path, ``newest`` the last of
    each.
    """

    def __init__(
        self,
        home: Path,
        bootstrap: str,
        topic: str,
        *,
        sends: bool = True,
        receives: bool = True,
        down: Path | None = None,
        upload: dict[str, Any] | None = None,
        download: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.up, self.down = home / "up", down or home / "down"
        self.up.mkdir(parents=True)
        self.down.mkdir()
        self.versions: dict[bytes, set[str]] = defaultdict(set)
        self.newest: dict[bytes, str] = {}
        out = {"directory": str(self.up), "topic": topic, "settle": "1s", **(upload or {})}
        into = {
            "directory": str(self.down),
            "topic": topic,
            "layout": "{path}",
            "group": f"{topic}-readers",  # else daemons of other tests would be in it
            **(download or {}),
        }
        super().__init__(
            home,
            bootstrap,
            uploads={"out": out} if sends else {},
            downloads={"in": into} if receives else {},
            **settings,
        )
        self._sources, self._published = Tree(self.up), Tree(self.down)

    def put(self, path: str | bytes, content: bytes, *, old: bool = False) -> bytes:
        """Write a file into ``up``, then close it; ``old``: it has been there for long.

        In one piece: a machine that is held up between two for longer than ``settle`` would have
        the first one sent, rightly."""
        name = os.fsencode(path)
        target = os.path.join(os.fsencode(self.up), name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        self.newest[name] = digest(content)
        self.versions[name].add(self.newest[name])
        with open(target, "wb", buffering=0) as file:
            file.write(content)
        if old:
            os.utime(target, (LONG_AGO, LONG_AGO))
        return name

    def sources(self) -> dict[bytes, str]:
        """Path → digest of everything in ``up``."""
        return self._sources.digests()

    def published(self) -> dict[bytes, str]:
        """Path → digest of everything in ``down``."""
        return self._published.digests()

    def receives_all(self, source: Host | None = None, deadline: float = 120) -> None:
        """Wait until ``down`` is, file by file, what ``source`` (itself) has in ``up`` now."""
        wanted = Tree((source or self).up).digests()
        end = time.monotonic() + deadline
        while self.published() != wanted and time.monotonic() < end:
            time.sleep(0.02)
        assert self.published() == wanted

    def receives(self, *paths: str | bytes, deadline: float = 60) -> None:
        """Wait until each of these names is in ``down``."""
        top = os.fsencode(self.down)
        names = [os.path.join(top, os.fsencode(path)) for path in paths]
        eventually(lambda: all(map(os.path.lexists, names)), deadline)

    def outgoing(self) -> dict[str, Any]:
        """The upload route in the status."""
        route: dict[str, Any] = self.status()["uploads"][0]
        return route

    def counts_published(self, number: int) -> None:
        """Wait until so many are called published: the count follows the renames."""
        eventually(lambda: self.incoming()["published"] == number)

    def arrived(self) -> int:
        """How many transfers are in Kafka, delivered or not yet."""
        return _moved(self.outgoing())[0]

    def delivers(self, *paths: str, deadline: float = 60) -> None:
        """Wait until a transfer of each of these files is called delivered."""
        wanted = {(path, "delivered") for path in paths}
        eventually(lambda: wanted <= set(self.states("upload")), deadline, every=0.1)

    def incoming(self) -> dict[str, Any]:
        """The download route in the status."""
        route: dict[str, Any] = self.status()["downloads"][0]
        return route

    def sent(self, count: int, deadline: float = 60) -> None:
        """Wait until so many transfers are in Kafka, and none is under way."""
        eventually(lambda: _moved(self.outgoing()) == (count, 0), deadline, every=0.1)

    def transfers(self, direction: str | None = None) -> list[dict[str, Any]]:
        """What ``kfdctl list`` would show, of one direction or both."""
        listed: list[dict[str, Any]] = self.call("List", limit=10_000)["transfers"]
        return [one for one in listed if direction in (None, one["direction"])]

    def states(self, direction: str) -> Counter[tuple[str, str]]:
        """How often each (path, state) is in the list."""
        return Counter((one["path"], one["state"]) for one in self.transfers(direction))

    def private(self) -> set[str]:
        """What is in ``.kfd``; a quarantine that is empty isn't told."""
        private = self.down / ".kfd"
        found = set(os.listdir(private))
        return found - {"quarantine"} if not any(private.glob("quarantine/*")) else found

    def clean(self, held: int = 0) -> None:
        """Wait until ``.kfd`` holds no partial; so many files are kept in quarantine."""
        quarantine = self.down / ".kfd" / "quarantine"
        eventually(lambda: self.private() - {"quarantine"} == {"owner"})
        assert len(list(quarantine.glob("*"))) == held


def _moved(route: dict[str, Any]) -> tuple[int, int]:
    return route["in_kafka"] + route["delivered"], route["queued"] + route["sending"]
