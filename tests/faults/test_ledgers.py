"""Names that are wanted twice, ledgers that are lost or older than the world: nothing is
overwritten, the newest version wins, nothing comes twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.clock import YEAR, Clock
from tests.faults.evidence import (
    arriving,
    back_up,
    conflicts,
    lose,
    none_came_twice,
    restore,
    source_of,
)
from tests.faults.frame import Figures
from tests.faults.group import Group
from tests.faults.judge import Judge
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.support import eventually

CHUNK = 64 << 10
CHUNKED = {"chunk_size": "64KiB"}
SLOW = {**CHUNKED, "queue": {"size": "1MiB"}, "upload": {"rate_limit": "8MiB"}}
NAMES = 20


def pair(make_host: MakeHost, **settings: object) -> tuple[Host, Host]:
    """A sender and a receiver, running."""
    sender = make_host("sender", receives=False, **(settings or CHUNKED))
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    sender.start()
    receiver.start()
    return sender, receiver


def put_versions(sender: Host, rng: random.Random, names: int = NAMES) -> None:
    """Next versions of the same files, of one record and of several."""
    for number in range(names):
        sender.put(f"{number % 3}/{number}.trc", rng.randbytes(rng.randrange(3 * CHUNK)))


@pytest.mark.fault(number=17, name="two-origins", rounds=10, short=2)
def test_same_paths_from_two_origins(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Whoever comes first has the name; the other one's versions lie beside it, and no version of
    either is lost to the other."""
    left, right = (
        make_host(name, receives=False, origin=name, **CHUNKED) for name in ("left", "right")
    )
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    for one in (left, right, receiver):
        one.start()
    with Judge([left, right], [receiver], wanted=dict, source_of=source_of) as judge:
        for _ in range(rounds):
            for number in range(NAMES):
                first, second = rng.sample([left, right], 2)
                for one in (first, second):
                    one.put(f"{number}.trc", rng.randbytes(rng.randrange(2 * CHUNK)))
            eventually(lambda: newest_are_there(receiver, left, right), 60, every=0.1)
            if rng.random() < 0.5:
                receiver.kill9()
                receiver.start()
        judge.nothing_half()
        eventually(lambda: newest_are_there(receiver, left, right), 60, every=0.1)
    assert receiver.incoming()["quarantined"] == 0
    figures.add("versions", 2 * rounds * NAMES)
    figures.add("conflict names", len(conflicts(receiver)))


def newest_are_there(receiver: Host, *sources: Host) -> bool:
    """Whether the newest content of each file of each source has some name of that file."""
    there: dict[bytes, set[str]] = {}
    for path, content in receiver.published().items():
        there.setdefault(source_of(path), set()).add(content)
    return all(
        content in there.get(path, set())
        for source in sources
        for path, content in source.sources().items()
    )


@pytest.mark.fault(number=17, name="foreign-files", rounds=10, short=2)
def test_what_kfd_did_not_write_is_not_overwritten(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Files that somebody put there, edited, or replaced, before and between versions."""
    sender, receiver = pair(make_host)
    own: dict[Path, bytes] = {}
    with Judge([sender], [receiver], wanted=dict, source_of=source_of):
        for round_ in range(rounds):
            for number in range(NAMES):
                target = receiver.down / f"{round_}.{number}.trc"
                if number % 4 < 2:
                    own[target] = rng.randbytes(rng.randrange(100))
                    target.write_bytes(own[target])
                sender.put(target.name, rng.randbytes(100))
            eventually(lambda: newest_are_there(receiver, sender), 60)
            for number in range(NAMES):
                target = receiver.down / f"{round_}.{number}.trc"
                if number % 4 == 2:
                    with target.open("ab") as file:
                        file.write(b", edited")
                    own[target] = target.read_bytes()
                if number % 4 == 1:
                    own[target] = rng.randbytes(99)
                    (other := receiver.down.parent / "other").write_bytes(own[target])
                    other.rename(target)
                sender.put(target.name, rng.randbytes(100))
            eventually(lambda: newest_are_there(receiver, sender), 60)
    assert {path: path.read_bytes() for path in own} == own
    assert receiver.incoming()["quarantined"] == 0
    figures.add("files of others", len(own))
    figures.add("conflict names", len(conflicts(receiver)))


@pytest.mark.fault(number=17, name="receivers-ledger-lost", rounds=3, short=0)
@pytest.mark.parametrize("amid", [False, True], ids=["between files", "amid a file"])
def test_receiver_without_its_ledger(
    make_host: MakeHost,
    offsets_to_start: Callable[[Host], None],
    rounds: int,
    rng: random.Random,
    figures: Figures,
    amid: bool,
) -> None:
    """The marks on the files tell what is there: all that is read again is known, and newer
    versions replace older ones as if nothing had been."""
    sender, receiver = pair(make_host, **SLOW)
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            put_versions(sender, rng, 6)
            judge.all_published(60)
            if amid:
                sender.put("large", rng.randbytes(4 << 20))
                eventually(lambda: arriving(receiver))
            receiver.kill9()
            lose(receiver)
            if not amid:
                offsets_to_start(receiver)
            put_versions(sender, rng, 3)
            receiver.start()
            judge.all_published(60)
        judge.nothing_half()
        judge.bad_records_are(ANY_REPEATED)
        none_came_twice(judge)
    assert conflicts(receiver) == []
    figures.add("ledgers lost", rounds)


ANY_REPEATED = {"orphan": (0, 1000), "duplicate": (0, 10_000)}
"""What a receiver that knows nothing any more may find in the topic, of what has ended."""


@pytest.fixture
def offsets_to_start(bootstrap: str, topic: str) -> Callable[[Host], None]:
    """Let the group read the topic from its beginning."""
    return lambda _: Group(bootstrap, f"{topic}-readers", topic).to_start()


@pytest.mark.fault(number=17, name="senders-ledger-lost", rounds=6, short=0)
@pytest.mark.parametrize("days", [0, -YEAR], ids=["clock right", "clock a year behind"])
def test_sender_without_its_ledger(
    make_host: MakeHost, rounds: int, rng: random.Random, figures: Figures, days: int
) -> None:
    """All is sent again, and so is the next version; its number is not higher by itself, where
    the clock is behind."""
    sender = make_host("sender", receives=False, origin="scope3", **CHUNKED)
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    clock = Clock(sender) if days else None
    sender.start()
    receiver.start()
    with Judge([sender], [receiver]) as judge:
        for _ in range(rounds):
            put_versions(sender, rng)
            judge.all_published(60)
            sender.kill9()
            lose(sender)
            put_versions(sender, rng, NAMES // 2)
            if clock:
                clock.step(days)
            sender.start()
            judge.all_published(60)
            put_versions(sender, rng, NAMES // 2)
            judge.all_published(60)
            if clock:
                clock.step(0)
        judge.nothing_half()
        judge.nothing_said_is_missing()
    assert conflicts(receiver) == []
    figures.add("ledgers lost", rounds)


@pytest.mark.fault(number=17, name="old-backup", rounds=5, short=0)
@pytest.mark.parametrize("side", ["sender", "receiver"])
@pytest.mark.parametrize("amid", [False, True], ids=["between files", "amid a file"])
def test_old_backup_of_a_ledger(
    make_host: MakeHost,
    rounds: int,
    rng: random.Random,
    figures: Figures,
    side: str,
    amid: bool,
) -> None:
    """Taken between two versions, or in the middle of a file; restored two versions later."""
    sender, receiver = pair(make_host, **SLOW)
    restored = {"sender": sender, "receiver": receiver}[side]
    with Judge([sender], [receiver]) as judge:
        for number in range(rounds):
            put_versions(sender, rng, 6)
            judge.all_published(60)
            sender.put("large", rng.randbytes(3 << 20))
            if amid:
                eventually(lambda: arriving(receiver))
            restored.kill9()
            backup = back_up(restored, f"backup {number}")
            restored.start()
            for _ in range(2):
                put_versions(sender, rng, 6)
                judge.all_published(60)
            sender.put("large", rng.randbytes(3 << 20))
            if amid:
                eventually(lambda: arriving(receiver))
            restored.kill9()
            restore(restored, backup)
            put_versions(sender, rng, 3)
            restored.start()
            judge.all_published(60)
        judge.nothing_half()
        judge.bad_records_are(ANY_REPEATED)
        none_came_twice(judge)
    assert conflicts(receiver) == []
    assert receiver.incoming()["quarantined"] == 0
    figures.add("backups restored", rounds)


@pytest.mark.fault(number=17, name="old-backup-unsettled", short=0)
def test_old_backup_with_a_file_that_had_to_settle(
    make_host: MakeHost, tmp_path: Path, rng: random.Random
) -> None:
    """It waits in the backup under a tid under which another version was sent since."""
    sender, receiver = pair(make_host, **SLOW)
    file = tmp_path / "run.trc"
    contents = [rng.randbytes(size) for size in (3 << 20, 1 << 20, 1 << 19)]
    sender.versions[b"run.trc"] = {digest(content) for content in contents}
    newest = {b"run.trc": digest(contents[0])}
    with Judge([sender], [receiver], wanted=lambda: newest) as judge:
        file.write_bytes(contents[0])
        assert sender.ctl("send", "--until", "queued", file).returncode == 0
        eventually(lambda: arriving(receiver))
        file.write_bytes(contents[1])
        eventually(lambda: ("run.trc", "cancelled") in sender.states("upload"))
        sender.kill9()
        backup = back_up(sender)
        sender.start()
        newest[b"run.trc"] = digest(contents[1])
        judge.all_published(60)
        sender.kill9()
        restore(sender, backup)
        file.write_bytes(contents[2])
        newest[b"run.trc"] = digest(contents[2])
        sender.start()
        judge.all_published(60)
        judge.nothing_half()
    receiver.clean()
