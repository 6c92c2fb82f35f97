"""How each crash point of the program is come to.

A scene is played in many times: what a scenario does is to work with whatever was done before.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from kfd.daemon.crashpoint import VARIABLE
from tests.faults.group import Group
from tests.faults.judge import Allowed, rows
from tests.faults.scenes import ELSEWHERE, Scene
from tests.faults.strace import Attached, Injection, Strace
from tests.faults.writer import load
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.integration.records import Sender
from tests.support import eventually

LARGE = 32 << 20  # bytes: enough for a checkpoint, and for seconds at this rate:
SLOWLY = {"rate_limit": "4MiB"}
DELAY = 0.4  # seconds that a system call takes where something is to happen before it


def nothing(scene: Scene) -> None:
    """No preparation."""


def files(scene: Scene) -> None:
    """New files, large and small, and new versions of those that are there."""
    load(scene.sender, scene.rng, "files", 10, 1)
    load(scene.sender, scene.rng, f"new {scene.rng.randbytes(4).hex()}", 10, 0)


@dataclass(frozen=True)
class Scenario:
    """How a crash point is come to.

    ``prepare`` runs before, and all it sends is published; ``meanwhile`` while both hosts are
    down; ``happens`` when they run again, until one of them dies. ``traced`` gives what is done to
    the system calls of the receiver or the sender then.
    """

    prepare: Callable[[Scene], None] = files
    meanwhile: Callable[[Scene], None] = nothing
    happens: Callable[[Scene], None] = files
    upload: dict[str, Any] = field(default_factory=dict)
    traced: Callable[[Scene], AbstractContextManager[object]] = nullcontext
    bad: Allowed = field(default_factory=dict)


# How each is come to that plain files don't come to


def large_file(scene: Scene) -> None:
    """One that takes seconds."""
    scene.sender.put(f"large {scene.rng.random()}", scene.rng.randbytes(LARGE), old=True)


def offered_file(scene: Scene) -> None:
    """One that is sent by kfdctl; its sender dies before it has answered."""
    file = scene.sender.up.parent / "offered"
    content = scene.rng.randbytes(1000)
    file.write_bytes(content)
    scene.sender.newest[b"offered"] = digest(content)
    scene.sender.versions[b"offered"].add(digest(content))
    assert scene.sender.ctl("send", "--route", "out", file).returncode != 0


def spooled_file(scene: Scene) -> None:
    """Standard input, of which the sender has to make a copy; wanted if that was accepted."""
    name, content = scene.rng.randbytes(8).hex(), scene.rng.randbytes(200_000)
    scene.sender.versions[name.encode()].add(digest(content))
    command = scene.sender.ctl_command("send", "--until", "queued", "--route", "out", "-")
    sent = subprocess.run([*command, "--name", name], input=content, check=False, timeout=60)
    if sent.returncode == 0:
        scene.sender.newest[name.encode()] = digest(content)


def changing_file(scene: Scene) -> None:
    """A file that changes when a part of it is in Kafka."""
    scene.sender.put("changing", scene.rng.randbytes(LARGE), old=True)
    eventually(lambda: _acknowledged(scene.sender) > 0 or not scene.alive(), every=0.05)
    _append(scene.sender, "changing", scene.rng.randbytes(1000))


def cancelled_file(scene: Scene) -> None:
    """One that is cancelled when a part of it is in Kafka; its sender dies before it has answered:
    the ledger has it that it is cancelled."""
    name = f"undone {scene.rng.randbytes(4).hex()}"
    scene.sender.put(name, scene.rng.randbytes(LARGE), old=True)
    eventually(lambda: _acknowledged(scene.sender) > 0, every=0.05)
    (tid,) = [one["tid"] for one in scene.sender.transfers("upload") if one["path"] == name]
    assert scene.sender.ctl("cancel", tid).returncode != 0
    del scene.sender.newest[name.encode()]
    (scene.sender.up / name).unlink()


def interrupted_for_long(scene: Scene) -> None:
    """Only a part of a file is in Kafka when its sender is killed, and 13 hours pass then."""
    scene.sender.start()
    scene.sender.put("interrupted", scene.rng.randbytes(LARGE), old=True)
    eventually(lambda: _acknowledged(scene.sender) > 0, every=0.05)
    scene.sender.kill9()
    with closing(sqlite3.connect(scene.sender.state / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE outgoing SET acked_at = acked_at - 13 * 3600")


def killed_before_renaming(scene: Scene) -> None:
    """The receiver dies with intents in its ledger, which its next start settles."""
    scene.receiver.environment[VARIABLE] = "publish.intended"
    scene.sender.start()
    scene.receiver.start()
    files(scene)
    eventually(lambda: not scene.receiver.running, 60)
    scene.sender.kill9()


def topic_made_again(scene: Scene) -> None:
    """Deleted, and made again."""
    admin = AdminClient({"bootstrap.servers": scene.bootstrap, "log_level": 0})
    admin.delete_topics([scene.topic])[scene.topic].result(30)

    def made() -> bool:
        new = NewTopic(scene.topic, num_partitions=8)
        return admin.create_topics([new])[scene.topic].exception(30) is None

    eventually(made, every=0.2)


def head_is_lost(scene: Scene) -> None:
    """A large file is in Kafka, but for its first records, before its receiver has read it."""
    there = Group(scene.bootstrap, "nobody", scene.topic)
    before = there.ends()
    scene.sender.start()
    scene.sender.put("headless", scene.rng.randbytes(1 << 20), old=True)
    eventually(lambda: "headless" in _in_kafka(scene.sender), every=0.1)
    scene.sender.kill9()
    grown = {n: at for n, at in there.ends().items() if at > before[n]}
    there.forget({number: before[number] + 2 for number in grown})


def wrong_digest(scene: Scene) -> None:
    """A file that isn't what its end claims."""
    Sender(scene.bootstrap, scene.topic).file(b"spoilt", end={"digest": bytes(32)})


def file_without_a_name(scene: Scene) -> None:
    """One that can't get its name: the receiver has a file where it needs a directory."""
    if not (scene.receiver.down / "obstacle").exists():
        _put_foreign(scene, "obstacle")
    name, content = f"obstacle/{scene.rng.randbytes(4).hex()}", scene.rng.randbytes(1000)
    Sender(scene.bootstrap, scene.topic).file(name.encode(), content)
    freed = f"freed {name.rpartition('/')[2]}"
    scene.sender.versions[freed.encode()].add(digest(content))


def held_file(scene: Scene) -> None:
    """That one, in quarantine."""
    file_without_a_name(scene)
    eventually(lambda: _held(scene.receiver), 60, every=0.1)


def release_them(scene: Scene) -> None:
    """By hand, under other names, until the receiver dies: it doesn't answer then."""
    for tid, path in _held(scene.receiver):
        name = f"freed {path.rpartition('/')[2]}"
        done = scene.receiver.ctl("quarantine", "release", tid, "--to", name)
        assert done.returncode == 0 or not scene.receiver.running, done.stderr


def purge_them(scene: Scene) -> None:
    """By hand; the receiver dies before it has answered."""
    scene.receiver.ctl("quarantine", "purge", "--all", "--yes")


def _held(host: Host) -> list[tuple[str, str]]:
    """The tids and paths of what is kept in quarantine."""
    statement = "SELECT hex(tid), path FROM quarantine JOIN incoming USING (id) WHERE held"
    return [(tid.lower(), os.fsdecode(path)) for tid, path in rows(host, statement)]


def someone_takes_the_name(scene: Scene) -> None:
    """A file comes to a name that was free when it was chosen."""
    name = scene.sender.put("taken", scene.rng.randbytes(1000))
    _intended(scene, name)
    _put_foreign(scene, "taken")


def _put_foreign(scene: Scene, name: str) -> None:
    """Somebody's file comes to the receiver's directory, all of it at once."""
    scene.sender.versions[name.encode()].add(digest(b"foreign"))
    aside = scene.receiver.up / "aside"
    aside.write_bytes(b"foreign")
    os.link(aside, scene.receiver.down / name)


def put_first_version(scene: Scene) -> None:
    """Of the file that is edited below."""
    scene.sender.put("edited", b"version 1")


def someone_edits_it(scene: Scene) -> None:
    """A published file is edited when its new version is about to take its place."""
    name = scene.sender.put("edited", b"version 2")
    _intended(scene, name)
    time.sleep(DELAY / 2)  # by now the exchange has been decided upon
    os.utime(scene.receiver.down / "edited", (1, 1))


def change_when_delivered(scene: Scene) -> None:
    """Files change in the moment in which one of them is disposed of: when another just was."""
    up = scene.sender.up
    for round_ in range(5):
        names = [f"late change {round_} {number}" for number in range(6)]
        for name in names:
            scene.sender.put(name, name.encode())
        eventually(lambda names=names: not all((up / name).exists() for name in names))
        time.sleep(DELAY / 4)  # by now the next has been looked at
        for name in names:
            with suppress(FileNotFoundError):  # it was too late
                _append(scene.sender, name, b"changed")
        time.sleep(2 * DELAY)  # in which that is noticed
        if not scene.alive():
            return


def _append(host: Host, name: str, more: bytes) -> None:
    """To a file that is still there: its next version."""
    with open(os.open(host.up / name, os.O_RDWR | os.O_APPEND), "r+b") as file:
        content = file.read() + more
        host.newest[os.fsencode(name)] = digest(content)
        host.versions[os.fsencode(name)].add(digest(content))
        file.write(more)


def _acknowledged(host: Host) -> int:
    """Records of files that are being sent that Kafka has acknowledged, as the ledger knows."""
    ((count,),) = rows(host, "SELECT total(acked) FROM outgoing WHERE state = 'sending'")
    return int(count)


def _in_kafka(host: Host) -> set[str]:
    found = rows(host, "SELECT path FROM outgoing WHERE state IN ('in_kafka', 'delivered')")
    return {os.fsdecode(path) for (path,) in found}


def _intended(scene: Scene, name: bytes) -> None:
    """Wait until the receiver is about to rename to this name, or has died."""

    def intents() -> list[Any]:
        statement = f"SELECT 1 FROM incoming WHERE state = 'publishing' AND name = x'{name.hex()}'"
        return rows(scene.receiver, statement)

    eventually(lambda: intents() or not scene.alive(), every=0.01)


# What is done to system calls


class Delay(Injection):
    """The call isn't made to fail, but takes long."""

    def __str__(self) -> str:
        return f"{self.call}:delay_enter={int(DELAY * 1e6)}"


def slow_receiver(scene: Scene) -> Attached:
    """Its renames take long."""
    return _traced(scene.receiver, *_SLOW_RENAMES)


def slow_sender(scene: Scene) -> Attached:
    """Its renames take long."""
    return _traced(scene.sender, *_SLOW_RENAMES)


def no_flags(scene: Scene) -> Attached:
    """The receiver's file system doesn't know RENAME_NOREPLACE and RENAME_EXCHANGE."""
    return _traced(scene.receiver, Injection("renameat2", "EINVAL"))


def _traced(host: Host, *injections: Injection) -> Attached:
    assert host.process is not None
    return Strace(injections, host.log_file.with_suffix(".strace")).attached(host.process.pid)


_SLOW_RENAMES = [Delay(call, "") for call in ("rename", "renameat", "renameat2")]

DELETE = {"then": "delete"}
MOVE = {"then": {"move": ELSEWHERE}}

SCENARIOS: dict[str, Scenario] = {
    "checkpoint": Scenario(happens=large_file, upload=SLOWLY),
    "confirmations.old-topic": Scenario(meanwhile=topic_made_again),
    "confirmations.resent": Scenario(
        meanwhile=head_is_lost, happens=nothing, bad={"offsets-lost": (2, 1000), "orphan": (0, 100)}
    ),
    "sender.accepted-offer": Scenario(happens=offered_file),
    "publish.exchanged-back": Scenario(
        prepare=put_first_version, happens=someone_edits_it, traced=slow_receiver
    ),
    "publish.intended-aside": Scenario(happens=someone_takes_the_name, traced=slow_receiver),
    "publish.linked": Scenario(traced=no_flags),
    "purge": Scenario(prepare=held_file, happens=purge_them),
    "quarantine": Scenario(happens=file_without_a_name),
    "reject": Scenario(happens=wrong_digest, bad={"digest-mismatch": (1, 1)}),
    "release": Scenario(prepare=held_file, happens=release_them),
    "sender.aborted": Scenario(happens=changing_file, upload=SLOWLY),
    "sender.cancelled": Scenario(happens=cancelled_file, upload=SLOWLY),
    "sender.started-over": Scenario(meanwhile=interrupted_for_long, happens=nothing, upload=SLOWLY),
    "settle": Scenario(meanwhile=killed_before_renaming, happens=nothing),
    "spool": Scenario(happens=spooled_file),
    "then": Scenario(upload=DELETE),
    "then.changed": Scenario(happens=change_when_delivered, upload=DELETE, traced=slow_sender),
    "then.copied": Scenario(upload=MOVE),
    "then.placed": Scenario(upload=MOVE),
}
"""By crash point, or by its first word; where there is none, by plain files."""

LATER = {"sender.produced": 60, "publish.renamed": 7}
"""Points that matter when they are come to again: amid a large file, amid a batch."""


def visits(point: str) -> list[str]:
    """As ``KFD_CRASH_AT`` takes it: the first time, and a later one where that is another place."""
    return [point, f"{point}:{LATER[point]}"] if point in LATER else [point]


def scenario_of(point: str) -> Scenario:
    """How a point is come to."""
    point = point.partition(":")[0]
    return SCENARIOS.get(point) or SCENARIOS.get(point.partition(".")[0]) or Scenario()
