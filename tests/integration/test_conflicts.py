"""Newest wins, and what kfd did not put there, or another origin did, is never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.records import CHUNK, Crafted, Sender
from tests.support import eventually


def read(host: Host) -> dict[str, bytes]:
    """Every published file's content, by name."""
    return {
        os.fsdecode(path): (host.down / os.fsdecode(path)).read_bytes() for path in host.published()
    }


def conflict(name: str, crafted: Crafted) -> str:
    """The name that a file gets beside ``name``."""
    stem, dot, extension = name.rpartition(".")
    return f"{stem or extension}.conflict-{crafted.tid.hex()}{dot}{extension if stem else ''}"


def test_foreign_file_is_not_overwritten(receiver: Host, sender: Sender) -> None:
    (receiver.down / "run").mkdir()
    (receiver.down / "run" / "1.trc").write_bytes(b"somebody's own")
    crafted = sender.file(b"run/1.trc", b"arriving")
    name = conflict("run/1.trc", crafted)
    receiver.receives(name)
    assert read(receiver) == {"run/1.trc": b"somebody's own", name: b"arriving"}
    receiver.counts_published(1)


def test_published_file_that_was_edited_is_not_overwritten(receiver: Host, sender: Sender) -> None:
    sender.file(b"notes.txt", b"version 1")
    receiver.receives("notes.txt")
    with (receiver.down / "notes.txt").open("ab") as file:
        file.write(b" and what somebody added")
    second = sender.file(b"notes.txt", b"version 2", generation=2)
    name = conflict("notes.txt", second)
    receiver.receives(name)
    edited = b"version 1 and what somebody added"
    assert read(receiver) == {"notes.txt": edited, name: b"version 2"}


def test_published_file_that_was_removed_comes_with_its_next_version(
    receiver: Host, sender: Sender
) -> None:
    sender.file(b"notes.txt", b"version 1")
    receiver.receives("notes.txt")
    (receiver.down / "notes.txt").unlink()
    sender.file(b"notes.txt", b"version 2", generation=2)
    receiver.receives("notes.txt")
    assert read(receiver) == {"notes.txt": b"version 2"}


def test_older_generation_never_replaces_a_newer_one(receiver: Host, sender: Sender) -> None:
    sender.file(b"run.trc", b"the newer", generation=20)
    receiver.receives("run.trc")
    sender.file(b"run.trc", b"the older", generation=10)
    sender.file(b"after it")
    receiver.receives("after it")
    assert read(receiver)["run.trc"] == b"the newer"
    states = receiver.states("download")
    assert states["run.trc", "superseded"] == states["run.trc", "published"] == 1


def test_versions_that_arrive_in_one_batch_end_with_the_newest(
    make_host: MakeHost, sender: Sender
) -> None:
    """All there before the daemon starts, so that they are read together, and in odd order."""
    for generation in (3, 1, 9, 2, 8):
        sender.file(b"run.trc", b"%d" % generation, generation=generation)
    receiver = make_host("receiver", sends=False)
    receiver.start()
    eventually(lambda: sum(receiver.states("download").values()) == 5)
    assert read(receiver) == {"run.trc": b"9"}
    assert receiver.states("download") == {
        ("run.trc", "published"): 2,
        ("run.trc", "superseded"): 3,
    }
    receiver.clean()


def test_newest_wins_when_the_older_one_takes_longer(receiver: Host, sender: Sender) -> None:
    """The older version began first and ends last."""
    older = Crafted(sender.topic, b"run.trc", b"o" * 3 * CHUNK, generation=1)
    *beginning, last = older.records()
    for record in beginning:
        sender.record(*record)
    sender.file(b"run.trc", b"newer", generation=2)
    receiver.receives("run.trc")
    sender.record(*last)
    sender.flush()
    eventually(lambda: receiver.states("download")["run.trc", "superseded"] == 1)
    assert read(receiver) == {"run.trc": b"newer"}
    receiver.clean()


def test_newest_wins_with_a_new_ledger(make_host: MakeHost, sender: Sender) -> None:
    """A daemon that knows nothing takes over the directory: the marks on the files count."""
    sender.file(b"run.trc", b"newer", generation=2)
    first = make_host("first", sends=False)
    first.start()
    first.receives("run.trc")
    assert first.terminate() == 0
    sender.file(b"run.trc", b"older", generation=1)
    taken_over = {"directory": str(first.down), "group": f"{sender.topic}-again"}
    second = make_host("second", sends=False, download=taken_over)
    second.start()
    eventually(lambda: second.states("download")["run.trc", "superseded"] == 1)
    assert second.states("download")["run.trc", "published"] == 1
    assert read(first) == {"run.trc": b"newer"}
    assert "took over" in second.log()


def test_two_origins_do_not_overwrite_one_another(make_host: MakeHost) -> None:
    """Two real senders with a file of the same name, and a receiver that leaves the origin out."""
    receiver = make_host("receiver", sends=False)
    left, right = (make_host(name, receives=False, origin=name) for name in ("left", "right"))
    for one in (receiver, left, right):
        one.start()
    left.put("same.trc", b"from the left")
    receiver.receives("same.trc")
    right.put("same.trc", b"from the right")
    eventually(lambda: len(receiver.published()) == 2)
    ((tid, path),) = [(one["tid"], one["path"]) for one in right.transfers("upload")]
    assert path == "same.trc"
    name = f"same.conflict-{tid}.trc"
    assert read(receiver) == {"same.trc": b"from the left", name: b"from the right"}
    left.put("same.trc", b"newer from the left")
    eventually(lambda: read(receiver)["same.trc"] == b"newer from the left")
    assert read(receiver)[name] == b"from the right"


def test_symlinked_directory_is_not_followed(
    receiver: Host, sender: Sender, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (receiver.down / "link").symlink_to(outside)
    (receiver.down / "deep").mkdir()
    (receiver.down / "deep" / "link").symlink_to(outside)
    sender.file(b"link/escaped")
    sender.file(b"deep/link/more/escaped")
    sender.file(b"after it")
    receiver.receives("after it")
    assert list(outside.iterdir()) == []
    eventually(lambda: receiver.incoming()["quarantined"] == 2)
    receiver.clean(held=2)


def test_symlink_in_place_of_the_file_is_left_alone(
    receiver: Host, sender: Sender, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (receiver.down / "run.trc").symlink_to(victim)
    name = conflict("run.trc", sender.file(b"run.trc", b"arriving"))
    receiver.receives(name)
    assert victim.read_bytes() == b"precious"
    assert (receiver.down / "run.trc").is_symlink()
    assert (receiver.down / name).read_bytes() == b"arriving"


def test_file_where_a_directory_is_needed(receiver: Host, sender: Sender) -> None:
    """That one transfer is quarantined, with the reason; the others flow."""
    sender.file(b"data", b"a file")
    receiver.receives("data")
    sender.file(b"data/run.trc", b"needs a directory")
    sender.file(b"after it")
    receiver.receives("after it")
    eventually(lambda: receiver.states("download")["data/run.trc", "quarantined"] == 1)
    (listed,) = [one for one in receiver.transfers() if one["state"] == "quarantined"]
    assert listed["reason"] == "its name can't be used here: Not a directory: data"
    assert receiver.incoming()["quarantined"] == receiver.status()["quarantine"] == 1
    receiver.clean(held=1)


def test_directory_where_the_file_should_go(receiver: Host, sender: Sender) -> None:
    (receiver.down / "data").mkdir()
    name = conflict("data", sender.file(b"data", b"a file"))
    receiver.receives(name)
    assert read(receiver) == {name: b"a file"}


def test_conflict_name_of_the_longest_name(receiver: Host, sender: Sender) -> None:
    long = "n" * 251 + ".trc"
    (receiver.down / long).write_bytes(b"somebody's own")
    crafted = sender.file(long.encode(), b"arriving")
    tail = f".conflict-{crafted.tid.hex()}.trc"
    name = "n" * (255 - len(tail)) + tail
    receiver.receives(name)
    assert read(receiver) == {long: b"somebody's own", name: b"arriving"}


def test_conflict_name_that_is_taken(receiver: Host, sender: Sender) -> None:
    """That file is somebody's too: it stays, and the arriving one isn't dropped in silence."""
    crafted = Crafted(sender.topic, b"run.trc", b"arriving")
    name = conflict("run.trc", crafted)
    (receiver.down / "run.trc").write_bytes(b"somebody's own")
    (receiver.down / name).write_bytes(b"this too")
    sender.send(crafted)
    sender.file(b"after it")
    receiver.receives("after it")
    assert read(receiver)["run.trc"] == b"somebody's own"
    assert read(receiver)[name] == b"this too"
    eventually(lambda: receiver.states("download")["run.trc", "quarantined"] == 1)
