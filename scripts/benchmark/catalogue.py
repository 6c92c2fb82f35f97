"""How fast a catalogue is told, and what it costs the way of the data.

    python -m scripts.benchmark.catalogue URL [PASSWORD]

Files of 20 kB are published in the ledger in batches of 256, as consumers do it (rows only, the
files themselves aren't written), without a catalogue and with one that is away; then the stage
tells the database at URL of all of them. Printed are rows a second and kfd's processor time.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kfd.config import Config, from_values
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, catalogue, publications
from kfd.daemon.ledger.publications import Received
from kfd.daemon.stage import Stage
from kfd.wire import Begin

FILES = 20_000
BATCH = 256


def main() -> None:
    """Measure it."""
    url = sys.argv[1]
    settings = {"url": url, "table": f"benchmark_{os.getpid()}"}
    settings |= {"password": sys.argv[2]} if len(sys.argv) > 2 else {}
    config = from_values({"kafka": {"bootstrap.servers": "none:1"}, "catalogue": {"it": settings}})
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as directory:
        _measure(Path(directory), config)


def _measure(directory: Path, config: Config) -> None:
    health = Health()
    ledger = Ledger(directory / "ledger.db", health, origin=None, default="lab2")
    ledger.start(_died)
    with _clock("published without a catalogue"):
        _publish(ledger, b"a")
    ledger.write(lambda db: catalogue.configure(db, {"it": "false"}))
    with _clock("published with one, away"):
        _publish(ledger, b"b")
    catalogues = Catalogues(ledger, health, directory / "spool")
    with _clock("told"):
        catalogues.apply(config, _died)
        while catalogue.standings(ledger.reader())[0].written < FILES:
            if problems := health.problems():
                sys.exit(problems[0].text)
            time.sleep(0.1)
    catalogues.stop(time.monotonic() + 10)
    ledger.stop()
    ledger.join(10)


@contextmanager
def _clock(what: str) -> Iterator[None]:
    """Print how fast all files were done."""
    began, used = time.monotonic(), time.process_time()
    yield
    rate = FILES / (time.monotonic() - began)
    each = (time.process_time() - used) / FILES * 1e6
    print(f"{what}: {rate:,.0f} rows/s, {each:.0f} \u00b5s of processor time each", flush=True)


def _publish(ledger: Ledger, kind: bytes) -> None:
    for start in range(0, FILES, BATCH):
        numbers = range(start, min(start + BATCH, FILES))
        batch = [_received(kind, number) for number in numbers]
        ledger.write(partial(publications.intend, batch=batch))
        ledger.write(partial(publications.conclude, published=batch, skipped=[]))


def _received(kind: bytes, number: int) -> Received:
    path = b"scope3/%s/run-%08d.trc" % (kind, number)
    now = time.time_ns()
    begin = Begin(
        *(path, "lecroy_files", "scope3", bytes(16), now // 1000, 20_000, now, 0o644),
        *(512 * 1024, 1, {"sample": "42"}),
    )
    return Received(
        *("archive", "topic-id", number % 8, number, os.urandom(16), begin, os.urandom(32)),
        *(path, now, 1, number),
    )


def _died(stage: Stage, error: BaseException) -> None:
    sys.exit(f"{stage.name}: {error!r}")


if __name__ == "__main__":
    main()
