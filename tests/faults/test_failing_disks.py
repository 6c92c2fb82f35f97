"""Disks that fail: what they don't write is waited out, said, and nothing is lost or half."""

from __future__ import annotations

import random
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.disks import ONE, said, sound, well_again
from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.strace import Call, Injection, Strace
from tests.faults.writer import load
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.support import eventually

ERRORS = ("EIO", "ENOSPC")


@pytest.fixture
def sender(make_host: MakeHost) -> Host:
    """Not running."""
    return make_host("sender", receives=False, **ONE)


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """Not running."""
    return make_host("receiver", sends=False, **ONE)


def pid(host: Host) -> int:
    """The process that it is now."""
    assert host.process is not None
    return host.process.pid


# What each side does to its disk, and what may go wrong with it. Reading a directory, or a
# program's own files, isn't the disk's fault that is meant here.
WRITES = ("pwrite64", "fsync", "fdatasync", "pread64")
PUBLISHES = ("renameat2", "fsetxattr", "utimensat", "fchmod", "unlinkat", "mkdirat", "linkat")


def injections(call: str, error: str, when: str) -> list[Injection]:
    """What makes one call fail. ``linkat`` is used only where there is no ``renameat2``."""
    made = [Injection(call, error, when)]
    return made if call != "linkat" else [*made, Injection("renameat2", "EINVAL")]


class Worked:
    """A sender and a receiver that go on for the whole of a test, as a service manager has it."""

    def __init__(self, sender: Host, receiver: Host, rng: random.Random) -> None:
        self.sender = sender
        self.receiver = receiver
        self.restarts = 0
        self._rng = rng
        self._done = 0

    def one_more_load(self) -> None:
        """Small files, new versions of others, and one of many records."""
        self._done += 1
        load(self.sender, self._rng, f"new {self._done}", 3, 0)
        for name in range(3):
            self.sender.put(f"same {name}", self._rng.randbytes(1000 + self._done))
        self.sender.put(f"large {self._done % 2}", self._rng.randbytes(300_000))

    def keep_running(self) -> None:
        """Start again what has ended by itself."""
        for one in (self.sender, self.receiver):
            if not one.running:
                assert "Traceback" not in one.log()
                self.restarts += 1
                one.start()

    def all_there(self) -> bool:
        """Whether all that is sent has come; restarts what has ended."""
        self.keep_running()
        return self.receiver.published() == self.sender.sources()


@pytest.fixture
def working(sender: Host, receiver: Host, rng: random.Random) -> Worked:
    """Both running."""
    sender.start()
    receiver.start()
    return Worked(sender, receiver, rng)


@pytest.mark.fault(number=12, name="nth-call-fails", rounds=6)
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_nothing_is_corrupt_when_one_call_fails(
    working: Worked,
    side: str,
    tmp_path: Path,
    rounds: int,
    rng: random.Random,
    whole: bool,
    figures: Figures,
) -> None:
    """The n-th call of each thread, n up to ``rounds``; in the short selection of a few kinds."""
    calls = WRITES if side == "sender" else WRITES + PUBLISHES
    chosen = calls if whole else rng.sample(calls, 3)
    faulty: Host = getattr(working, side)
    hits = 0
    with Judge([working.sender], [working.receiver]) as judge:
        for call in chosen:
            for n in range(1, rounds + 1):
                error = ERRORS[(n + calls.index(call)) % 2]
                strace = Strace(injections(call, error, str(n)), tmp_path / f"{call}.{n}.log")
                with strace.attached(pid(faulty)):
                    working.one_more_load()
                    eventually(working.all_there, 60, every=0.05)
                hits += strace.hits()
        figures.add("versions", judge.holds().arrivals)
    for host in (working.sender, working.receiver):
        sound(host)
        assert "Traceback" not in host.log()
    figures.add("calls failed", hits)
    figures.add("ends by itself, started again", working.restarts)
    assert hits


@pytest.mark.fault(number=12, name="failed-fsync", rounds=6)
def test_partial_whose_fsync_failed_is_never_published(
    working: Worked, tmp_path: Path, rounds: int, figures: Figures
) -> None:
    """What the kernel couldn't write it may have dropped: a later fsync would not tell."""
    with Judge([working.sender], [working.receiver]) as judge:
        for n in range(1, rounds + 1):
            failing = [Injection("fsync", "EIO", str(n))]
            strace = Strace(failing, tmp_path / f"{n}.log", watched=["renameat2", "unlinkat"])
            with strace.attached(pid(working.receiver)):
                working.one_more_load()
                eventually(working.all_there, 60, every=0.05)
            figures.add("failed", sum(map(_ended_well_after_failing, _partials(strace.calls()))))
        judge.holds()
    assert working.restarts == 0


def _partials(calls: Sequence[Call]) -> list[list[Call]]:
    """What was done to each partial."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if name := re.search(r"[0-9a-f]{32}[^/\"<>]*\.part", call.arguments):
            found[name[0]].append(call)
    return list(found.values())


def _ended_well_after_failing(calls: Sequence[Call]) -> bool:
    """Whether an fsync failed; then the partial was removed before anything else."""
    failed = next((at for at, call in enumerate(calls) if call.failed), None)
    if failed is None:
        return False
    after = [call.name for call in calls[failed + 1 :] if call.name != "fsync"]
    assert after[:1] == ["unlinkat"], f"after its fsync had failed: {after}"
    return True


@pytest.mark.fault(number=12, name="disk-fails-for-a-while", rounds=2, short=0)
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_failing_disk_is_said_and_waited_out(
    working: Worked, side: str, tmp_path: Path, rounds: int, figures: Figures
) -> None:
    """Every call fails, until the disk is mended."""
    calls = ("pwrite64", "fdatasync") if side == "sender" else ("pwrite64", "fsync", "renameat2")
    faulty: Host = getattr(working, side)
    with Judge([working.sender], [working.receiver]) as judge:
        for round_ in range(rounds):
            for call in calls:
                strace = Strace(
                    injections(call, ERRORS[round_ % 2], "1+"), tmp_path / f"{call}.{round_}.log"
                )
                with strace.attached(pid(faulty)):
                    working.one_more_load()
                    said(faulty, "error", "space", "cannot be written")
                mended = time.monotonic()
                eventually(working.all_there, 60, every=0.05)
                figures.sample("seconds until all were there", time.monotonic() - mended)
                well_again(faulty)
        figures.add("versions", judge.holds().arrivals)
    assert working.restarts == 0
    sound(faulty)


@pytest.mark.fault(number=12, name="start-on-failing-disk", rounds=8, short=0)
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_start_on_a_failing_disk_spoils_nothing(
    working: Worked, side: str, tmp_path: Path, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Killed under load, and the n-th call of what the next start does fails."""
    faulty: Host = getattr(working, side)
    calls = WRITES if side == "sender" else (*WRITES, "renameat2", "unlinkat")
    with Judge([working.sender], [working.receiver]) as judge:
        for n in range(1, rounds + 1):
            call = calls[n % len(calls)]
            working.one_more_load()
            time.sleep(rng.uniform(0, 0.5))  # not a wait for anything: the kill's moment
            faulty.kill9()
            strace = Strace(injections(call, ERRORS[n // 2 % 2], str(n)), tmp_path / f"{n}.log")
            faulty.prefix = strace.prefix()
            faulty.spawn()
            faulty.prefix = []
            eventually(working.all_there, 60, every=0.05)
            figures.add("calls failed", strace.hits())
        figures.add("versions", judge.holds().arrivals)
    figures.add("ends by itself, started again", working.restarts)
    assert "Traceback" not in faulty.log()
    sound(faulty)
