"""The plain loops as a side: each in a process of its own (see ``loops``)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.benchmark.data import Files
from scripts.benchmark.kafka import CHECKOUT
from scripts.benchmark.process import BenchmarkError, Process, Usage
from scripts.benchmark.side import Site, Timing, settle_disk

PUBLISHED_CHUNK = 512 * 1024  # bytes; of what is in the topic before files are published


class Plain:
    """The limit. It keeps no promise but that the bytes arrive."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def upload(self, files: Files, chunk_size: int) -> Timing:
        """Read, hash, produce; from the first read to the last acknowledgement."""
        with self._site.home() as home, self._site.broker.topic() as topic:
            settle_disk()
            command = (topic, chunk_size, files.directory, files.count)
            with self._loop(home, "upload", *command) as loop:
                seconds, *used = json.loads(loop.hear())
        return Timing(seconds, {"loop": Usage(*used)})

    def publish(self, files: Files) -> Timing:
        """Consume, hash, write, fsync, rename; from the commit that lets all be read."""
        with self._site.home() as home, self.filled_topic(home, files) as (topic, filler):
            output = home / "output"
            output.mkdir()
            with self._loop(home, "download", topic, topic, output, files.count) as loop:
                self._site.broker.wait_for_group(topic, members=1)
                settle_disk()
                began = time.time()
                filler.tell("commit")
                ended, *used = json.loads(loop.hear())
            check_published(files, output)
        return Timing(ended - began, {"loop": Usage(*used)})

    @contextmanager
    def filled_topic(self, home: Path, files: Files) -> Iterator[tuple[str, Process]]:
        """A topic with kfd's records of some files, none of which can be read until the process
        that wrote them is told to commit them."""
        with self._site.broker.topic() as topic:
            command = (topic, PUBLISHED_CHUNK, files.directory, files.count)
            with self._loop(home, "fill", *command) as filler:
                if filler.hear() != "filled":
                    raise filler.failed("did not fill the topic")
                yield topic, filler

    def _loop(self, home: Path, action: str, topic: str, *arguments: object) -> Process:
        command = [sys.executable, "-m", "scripts.benchmark.loops", action]
        command += [self._site.broker.bootstrap, topic, *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        return Process(command, home / f"{action}.log", environment=environment, dialogue=True)


def check_published(files: Files, directory: Path) -> None:
    """Raise :class:`BenchmarkError` if a file isn't there whole: then the time means nothing."""
    missing = files.missing_in(directory)
    if missing:
        raise BenchmarkError(f"{len(missing)} files are not in {directory}, like {missing[0]}")
