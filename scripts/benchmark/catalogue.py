"""How fast a catalogue is told, and what it costs the way of the data.

    python -m scripts.benchmark.catalogue URL [PASSWORD]

Files of 20 kB are published in the ledger in batches of 256, as consumers do it (rows only, the
files themselves aren't written), without a catalogue and with one that is away; then the stage
tells the database at URL of all of them. Of these rows a second it prints.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from kfd.config import Config, from_values
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.health import Health
from kfd.daemon.ledger import Ledger, catalogue, publications
from kfd.daemon.ledger.publications import Received
from kfd.daemon.stage import Stage
from kfd.wire import Begin

FILES = 50_000
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
    print(f"published without a catalogue: {_publish(ledger, b'a'):,.0f} rows/s")
    ledger.write(lambda db: catalogue.configure(db, {"it": "false"}))
    print(f"published with one, away:      {_publish(ledger, b'b'):,.0f} rows/s")
    catalogues = Catalogues(ledger, health, directory / "spool")
    began = time.monotonic()
    catalogues.apply(config, _died)
    while catalogue.standings(ledger.reader())[0].written < FILES:
        if problems := health.problems():
            sys.exit(problems[0].text)
        time.sleep(0.02)
    print(f"told:                          {FILES / (time.monotonic() - began):,.0f} rows/s")
    catalogues.stop(time.monotonic() + 10)
    ledger.stop()
    ledger.join(10)


def _publish(ledger: Ledger, kind: bytes) -> float:
    """Publish all files; how many a second."""
    batches = [
        [_received(kind, number) for number in range(start, min(start + BATCH, FILES))]
        for start in range(0, FILES, BATCH)
    ]
    began = time.monotonic()
    for batch in batches:
        ledger.write(lambda db, batch=batch: publications.intend(db, batch))  # type: ignore[misc]
        ledger.write(lambda db, batch=batch: publications.conclude(db, batch, []))  # type: ignore[misc]
    return FILES / (time.monotonic() - began)


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
