"""Files that are changed, cut, replaced or removed while they are read: no mixture, and the last
version arrives."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.support import eventually

CHUNK = 64 << 10
AT_ONCE = 4  # large files that a pool of 5 threads reads side by side
LARGEST = 3 << 20
READ_SECONDS = 0.5  # that so many are read for, by the rate limit

Change = Callable[[Host, str, random.Random], None]


def rewrite(host: Host, path: str, rng: random.Random) -> None:
    """In place, from the first byte on: another size."""
    host.put(path, rng.randbytes(rng.randrange(LARGEST)))


def overwrite(host: Host, path: str, rng: random.Random) -> None:
    """In place, in one go: the same size and inode, so that only the time of writing tells."""
    size = (host.up / path).stat().st_size
    _write(host, path, "r+b", rng.randbytes(size))


def append(host: Host, path: str, rng: random.Random) -> None:
    before = (host.up / path).read_bytes()
    more = rng.randbytes(rng.randrange(1, 2 * CHUNK))
    host.versions[os.fsencode(path)].add(digest(before + more))
    _write(host, path, "ab", more, of=before + more)


def truncate(host: Host, path: str, rng: random.Random) -> None:
    target = host.up / path
    kept = target.read_bytes()[: rng.randrange(target.stat().st_size)]
    host.versions[os.fsencode(path)].add(digest(kept))
    with target.open("r+b") as file:
        file.truncate(len(kept))


def replace(host: Host, path: str, rng: random.Random) -> None:
    """By a rename, as careful programs do it: what is open stays as it was."""
    _replace(host, path, rng.randbytes(rng.randrange(LARGEST)))


def replace_alike(host: Host, path: str, rng: random.Random) -> None:
    """By a file of the same size and the same time: only the inode tells."""
    status = (host.up / path).stat()
    _replace(host, path, rng.randbytes(status.st_size), times=(status.st_mtime_ns,) * 2)


def remove(host: Host, path: str, rng: random.Random) -> None:
    (host.up / path).unlink()


def remove_and_make_again(host: Host, path: str, rng: random.Random) -> None:
    (host.up / path).unlink()
    rewrite(host, path, rng)


CHANGES: tuple[Change, ...] = (
    *(rewrite, overwrite, append, truncate, replace, replace_alike),
    *(remove, remove_and_make_again),
)


@pytest.mark.fault(number=13, name="source-changes", rounds=300, short=16)
def test_source_that_changes_while_it_is_read(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Each file is changed once, at a random moment after kfd has opened it."""
    rate = AT_ONCE * LARGEST / READ_SECONDS
    host = make_host(
        chunk_size="64KiB",
        queue={"size": "1MiB"},  # an eighth of it at a time: each file is read in many turns
        upload={"rate_limit": f"{rate / 2**20:.0f}MiB"},
    )
    host.start()
    with Judge([host], [host]) as judge:
        for first in range(0, rounds, AT_ONCE):
            changes = {
                f"{first // 100}/{number}": CHANGES[number % len(CHANGES)]
                for number in range(first, min(first + AT_ONCE, rounds))
            }
            for path in changes:
                host.put(path, rng.randbytes(rng.randrange(2 * CHUNK, LARGEST)))
            for path, change in changes.items():
                if _begun(host, path):
                    time.sleep(rng.uniform(0, READ_SECONDS / AT_ONCE))  # the moment of the change
                change(host, path, rng)
        verdict = judge.holds(deadline=120)
    seen = sum(one["state"] == "cancelled" for one in host.transfers("upload"))
    assert seen >= rounds // 8, "so few were changed while they were read: it tests nothing"
    figures.add("changes", rounds)
    figures.add("of which the reader noticed", seen)
    figures.sample("seconds until the last version was there", verdict.seconds)


@pytest.mark.fault(number=13, name="source-rewritten-at-once", rounds=300, short=30)
def test_source_that_is_rewritten_right_after_it_was_closed(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """As a program does it that goes back to fill in a header: the same size, microseconds later.

    The first version may be sent or not; the second one must.
    """
    host = make_host(chunk_size="4KiB")
    host.start()
    with Judge([host], [host]) as judge:
        for number in range(rounds):
            host.put(f"{number}", rng.randbytes(size := rng.randrange(1, 40_000)))
            _write(host, f"{number}", "r+b", rng.randbytes(size))
        judge.holds()
    figures.add("rewritten at once", rounds)


def _begun(host: Host, path: str) -> bool:
    """Wait until the daemon has the file open; false if it has read it already."""
    target = str(host.up / path)
    assert host.process is not None
    descriptors = Path(f"/proc/{host.process.pid}/fd")

    def opened() -> str:
        if target in map(_target, descriptors.iterdir()):
            return "open"
        return "read" if os.fsencode(path) in host.published() else ""

    return eventually(opened, every=0.001) == "open"


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""


def _write(host: Host, path: str, mode: str, content: bytes, of: bytes | None = None) -> None:
    """One write; ``of`` is what the whole file is after it, if that is more than the content."""
    host.versions[os.fsencode(path)].add(digest(content if of is None else of))
    with (host.up / path).open(mode, buffering=0) as file:
        assert file.write(content) == len(content)


def _replace(host: Host, path: str, content: bytes, times: tuple[int, ...] = ()) -> None:
    host.versions[os.fsencode(path)].add(digest(content))
    other = host.up.parent / "other"
    other.write_bytes(content)
    if times:
        os.utime(other, ns=(times[0], times[1]))
    other.rename(host.up / path)
