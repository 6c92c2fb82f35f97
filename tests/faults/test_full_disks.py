"""Disks that are full: waited out, said, and nothing is lost or half."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import ONE, reason, said, sound, well_again
from tests.faults.evidence import whole_on_topic
from tests.faults.frame import Figures
from tests.faults.judge import Judge, accepted
from tests.faults.writer import Writing, load
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.parts import fill, mounted
from tests.support import eventually

RESUMED_SECONDS = 10.0  # after there is space again, without a restart


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    with mounted(tmp_path / "small", "tmpfs", "size=32m") as root:
        yield root


@pytest.fixture
def sender(make_host: MakeHost) -> Host:
    """Not running."""
    return make_host("sender", receives=False, **ONE)


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """Not running."""
    return make_host("receiver", sends=False, **ONE)


def goes_on_when_freed(filler: Path, host: Host, judge: Judge, figures: Figures) -> None:
    """Free the disk: all is there and all is well soon, and without a restart."""
    process = host.process
    filler.unlink()
    freed = time.monotonic()
    judge.all_published(60)
    seconds = time.monotonic() - freed
    figures.sample("seconds until all were there", seconds)
    assert seconds < RESUMED_SECONDS
    well_again(host)
    assert host.process is process
    assert host.running


@pytest.mark.fault(number=10, name="receiver-disk-full", rounds=5)
def test_receiver_waits_for_space_and_goes_on(
    make_host: MakeHost,
    sender: Host,
    disk: Path,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    receiver = make_host("receiver", sends=False, down=disk / "down", **ONE)
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            filler = fill(disk, leave=rng.randrange(256 << 10))
            load(sender, rng, "same names", 30, 1)
            problem = said(receiver, "space", "free")
            goes_on_when_freed(filler, receiver, judge, figures)
        figures.note(f"it says: {reason(problem)}")
        figures.add("files", judge.holds().arrivals)
    receiver.clean()


@pytest.mark.fault(number=10, name="disk-fills-up-amid-a-file", rounds=3, short=0)
def test_receiver_goes_on_amid_a_file_for_which_there_was_space(
    make_host: MakeHost, disk: Path, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """It was begun, and then others have used up the disk."""
    sender = make_host("sender", receives=False, upload={"rate_limit": "4MiB"}, **ONE)
    receiver = make_host("receiver", sends=False, down=disk / "down", **ONE)
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            sender.put("large", rng.randbytes(8 << 20))
            eventually(lambda: receiver.incoming()["receiving"] == 1)
            filler = fill(disk)
            figures.note(f"it says: {reason(said(receiver, 'space'))}")
            goes_on_when_freed(filler, receiver, judge, figures)
        figures.add("files", judge.holds().arrivals)
    receiver.clean()


@pytest.mark.fault(number=10, name="receiver-ledger-full", rounds=3, short=0)
def test_receiver_waits_for_space_for_its_ledger(
    sender: Host,
    receiver: Host,
    disk: Path,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    receiver.state = disk / "state"
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            with Writing(sender, rng, pause=0.01):
                filler = fill(disk)
                figures.note(f"it says: {reason(said(receiver, 'ledger'))}")
            goes_on_when_freed(filler, receiver, judge, figures)
        figures.add("files", judge.holds().arrivals)
    sound(receiver)


@pytest.mark.fault(number=11, name="sender-ledger-full", rounds=3)
def test_nothing_is_called_queued_that_is_not(
    sender: Host,
    receiver: Host,
    disk: Path,
    bootstrap: str,
    topic: str,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    sender.state = disk / "state"
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for number in range(rounds):
            with Writing(sender, rng, pause=0.005):
                filler = fill(disk)
                figures.note(f"it says: {reason(said(sender, 'ledger'))}")
                offered = _offer(sender, number, figures)
                known = {tid.hex() for tid, _ in accepted(sender)}
                assert offered <= known, "called queued, and isn't in the ledger"
            goes_on_when_freed(filler, sender, judge, figures)
        figures.add("files", judge.holds().arrivals)
    assert set(whole_on_topic(bootstrap, topic).values()) == {1}
    sound(sender)


def _offer(sender: Host, number: int, figures: Figures) -> set[str]:
    """Have kfdctl queue files while there is no space: the tids that it calls queued."""
    queued = set()
    for one in range(5):
        file = sender.up.parent / f"offered {number}.{one}"
        content = b"%d %d" % (number, one)
        file.write_bytes(content)
        sender.versions[os.fsencode(file.name)].add(digest(content))
        done = sender.ctl("send", file, "--name", file.name, "--until", "queued", "--json")
        assert "Traceback" not in done.stderr
        if done.returncode == 0:
            figures.add("sends taken")
            queued |= {sent["tid"] for sent in json.loads(done.stdout)["files"]}
        else:
            figures.add("sends refused")
            assert "full" in done.stderr
            assert "fix: " in done.stderr
    return queued


@pytest.mark.fault(number=11, name="started-on-full-disk", rounds=1)
def test_start_on_a_full_disk_says_so(
    sender: Host, receiver: Host, disk: Path, rounds: int, figures: Figures
) -> None:
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            sender.state = disk / "state"
            sender.put("was there before", b"content", old=True)
            filler = fill(disk)
            sender.spawn()
            figures.note(f"exit status {sender.wait(20)}")
            assert "Traceback" not in sender.log()
            assert "fix: free space" in sender.log()
            filler.unlink()
            sender.start()
            figures.add("files", judge.holds().files)
