"""The peer's files put together: in any order, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kfd.daemon.ledger import Ledger
from kfd.wire import HEADER_NAME
from tests.parts import Receiving, Sent, receiving
from tests.peerfiles import PeerFile
from tests.unit.scattered.topic import Topic, bad, read_rest, states


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 9, 40])
def test_file_of_any_size_is_published_whole(parts: Receiving, topic: Topic, size: int) -> None:
    file = PeerFile(bytes(range(size)))
    records = topic.upload(file)
    for record in records[:-1]:
        parts.receiver.receive([record])
        assert parts.visible() == {}
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": file.content}
    assert parts.receiver.safe_offsets() == topic.ends()
    assert parts.parts() == []
    assert bad(parts) == {}
    assert states(parts) == [(b"run.trc", "published")]


def test_mode_and_mtime(parts: Receiving, topic: Topic) -> None:
    topic.upload(PeerFile(b"nine fields", "nine", mtime=None))
    topic.upload(PeerFile(b"ten fields", "ten", mtime=1_600_000_000.25))
    last = topic.now
    topic.upload(PeerFile(b"before the epoch", "old", mtime=-1.5))
    read_rest(parts, topic)
    found = {path.name: path.stat() for path in parts.root.iterdir() if path.is_file()}
    assert {one.st_mode & 0o777 for one in found.values()} == {0o640}
    assert found["ten"].st_mtime_ns == 1_600_000_000_250_000_000
    assert found["old"].st_mtime_ns == -1_500_000_000
    assert 1_700_000_000_000 < found["nine"].st_mtime_ns // 1_000_000 < last


@pytest.mark.parametrize("timestamp", [2**63 - 1, 2**60, -(2**60), -(2**63)])
def test_a_time_that_no_file_can_have(parts: Receiving, topic: Topic, timestamp: int) -> None:
    """It is published as of the latest, or the earliest, that is possible."""
    topic.now = timestamp - 1
    topic.add(PeerFile(b"content", chunk_size=9, mtime=None).value(1), 1)
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": b"content"}
    topic.now = 1_700_000_000_000
    topic.upload(PeerFile(b"later", chunk_size=9))
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": b"later"}


@pytest.mark.parametrize("mtime", [9_223_372_036.85, -9_223_372_036.85])
def test_times_at_the_ends_leave_room_to_round(
    parts: Receiving, topic: Topic, mtime: float
) -> None:
    topic.add(PeerFile(b"12345678", mtime=mtime).value(1), 0)
    read_rest(parts, topic)
    [transfer] = parts.receiver.open_transfers()
    assert abs(transfer.begin.mtime_ns) + 10**9 < 2**63


def test_names_that_no_path_can_have(parts: Receiving, topic: Topic) -> None:
    for length in (2000, 2100, 65_535):
        topic.add(PeerFile(b"content", "n" * length).value(1), 0)
    topic.upload(PeerFile(b"good", "good"))
    read_rest(parts, topic)
    assert parts.visible() == {b"good": b"good"}
    assert sum(bad(parts).values()) == 3


@pytest.mark.parametrize(
    ("name", "append", "path"),
    [
        ("a.b.c", "_A", b"a.b_A.c"),
        (".hid", "_A", b".hid_A"),
        ("a.", "_A", b"a._A"),
        ("a", "", b"a"),
    ],
)
def test_subdirectories_and_what_is_appended(
    parts: Receiving, topic: Topic, name: str, append: str, path: bytes
) -> None:
    topic.upload(PeerFile(b"content", name, "sub/dir ü", append))
    read_rest(parts, topic)
    assert parts.visible() == {"sub/dir ü/".encode() + path: b"content"}


def test_any_order_and_repeats(parts: Receiving, topic: Topic) -> None:
    file = PeerFile(os.urandom(39))
    topic.upload(file, [10, 3, 3, 7, 1, 10, 2, 9, 4, 6, 5, 5, 8, 1])
    read_rest(parts, topic, batch=1)
    assert parts.visible() == {b"run.trc": file.content}
    assert bad(parts) == {"duplicate": 4}
    assert parts.receiver.safe_offsets() == topic.ends()
    assert states(parts) == [(b"run.trc", "published")]


@pytest.mark.parametrize("missing", [1, 4, 10])
def test_holes_are_never_published(parts: Receiving, topic: Topic, missing: int) -> None:
    file = PeerFile(os.urandom(40))
    topic.upload(file, [index for index in range(1, 11) if index != missing])
    read_rest(parts, topic)
    assert parts.visible() == {}
    assert len(parts.parts()) == 1
    first = {number: log[0].offset for number, log in topic.records.items() if log}
    assert parts.receiver.safe_offsets() == first
    parts.receiver.pass_time(3601.0, [0, 1])
    assert states(parts) == []  # of the third partition more may come
    parts.receiver.pass_time(3601.0, [0, 1, 2])
    assert states(parts) == [(b"run.trc", "expired")]
    assert parts.parts() == []
    assert parts.receiver.safe_offsets() == topic.ends()
    topic.upload(file)
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": file.content}


def test_lies_change_nothing(parts: Receiving, topic: Topic) -> None:
    """What one record can't be is dropped; what it claims otherwise is another version."""
    file = PeerFile(os.urandom(40))
    other = os.urandom(4)
    lies: dict[str, list[bytes | None]] = {
        "digest-mismatch": [
            file.value(5, chunk=bytes(64)), file.value(5, data=other, chunk=file.sha512),
        ],
        "malformed": [
            file.value(5, offset=15), file.value(5, offset=4), file.value(5, total=4),
            file.value(5, data=other + b"!"), file.value(5, data=b""), file.value(0),
            file.value(5, total=0), file.value(5, index=11), file.value(5, index=True),
            file.value(5, mtime="now"), file.value(5) + b"!", file.value(5)[:-1],
        ],
        "bad-path": [
            file.value(5, subdir=".."), file.value(5, subdir="/etc"), file.value(5, name="a/b"),
            file.value(5, name=".."), file.value(5, name=""), file.value(5, subdir=".kfd"),
            file.value(5, name="n" * 256), file.value(5, subdir="a//b"), file.value(5, append="/x"),
        ],
        "foreign": [b"", b"\xc1", b"\x9a", b"{}", None, b"\x98" + file.value(5)[1:]],
    }  # fmt: skip
    for some in lies.values():
        for number, value in enumerate(some):
            topic.add(value, number % 3)
    topic.upload(file)
    for value in (file.value(5, total=20), file.value(5, file=bytes(64))):
        topic.add(value, 1)  # never to be complete
    read_rest(parts, topic)
    assert parts.visible() == {b"run.trc": file.content}
    assert bad(parts) == {reason: len(some) for reason, some in lies.items()}
    assert len(parts.receiver.open_transfers()) == 2
    parts.receiver.pass_time(3601.0, [0, 1, 2])
    assert parts.receiver.safe_offsets() == topic.ends()


@pytest.mark.parametrize("size", [3, 40])
def test_file_that_is_not_what_was_promised_is_quarantined(
    parts: Receiving, topic: Topic, size: int
) -> None:
    topic.upload(PeerFile(os.urandom(size), claims={"file": bytes(64)}))
    read_rest(parts, topic)
    assert parts.visible() == {}
    assert parts.parts() == []
    assert states(parts) == [(b"run.trc", "quarantined")]
    assert bad(parts) == {"digest-mismatch": 1}
    assert parts.receiver.safe_offsets() == topic.ends()


def test_chunk_of_another_content_spoils_only_that_upload(parts: Receiving, topic: Topic) -> None:
    file = PeerFile(os.urandom(40))
    topic.add(file.value(5, data=b"evil"), 2)
    for _ in range(2):
        topic.upload(file)
        read_rest(parts, topic)
    assert states(parts) == [(b"run.trc", "quarantined"), (b"run.trc", "published")]
    assert parts.visible() == {b"run.trc": file.content}


def test_conflicts_of_paths(parts: Receiving, topic: Topic) -> None:
    (parts.root / "mine").write_bytes(b"mine")
    (parts.root / "link").symlink_to("/tmp")
    for subdir, name in (("", "mine"), ("mine", "x"), ("link", "x"), ("", "dir"), ("dir", "x")):
        topic.upload(PeerFile(b"theirs", name, subdir))
        read_rest(parts, topic)
    visible = parts.visible()
    assert visible[b"mine"] == b"mine"
    conflicts = {path: content for path, content in visible.items() if b".conflict-" in path}
    assert list(conflicts.values()) == [b"theirs"]
    assert dict(states(parts)) == {
        b"mine": "published",
        b"dir": "published",
        b"mine/x": "quarantined",
        b"link/x": "quarantined",
        b"dir/x": "quarantined",
    }
    assert parts.receiver.safe_offsets() == topic.ends()


def test_too_large_files_are_refused(ledger: Ledger, tmp_path: Path, topic: Topic) -> None:
    with receiving(ledger, tmp_path / "data", mixed=True, max_size=30) as parts:
        topic.upload(PeerFile(bytes(31), "shows at the end", chunk_size=16))
        topic.upload(PeerFile(bytes(90), "shows at once", chunk_size=16))
        topic.add(PeerFile(b"12345678", "claims").value(1, total=1 << 61), 0)
        topic.upload(PeerFile(bytes(30), "fits", chunk_size=16))
        read_rest(parts, topic)
        assert parts.visible() == {b"fits": bytes(30)}
        assert bad(parts) == {"too-big": 8}
        assert dict(states(parts)) == {b"fits": "published", b"shows at the end": "quarantined"}
        assert parts.parts() == []


def test_kfds_records_on_the_same_topic(parts: Receiving, topic: Topic) -> None:
    ours = Sent(b"of kfd's own", b"ours")
    theirs = PeerFile(b"of the peer's", "theirs")
    for ours_next, theirs_next in zip(ours.records(), range(1, theirs.total + 1), strict=False):
        record = topic.add(ours_next.value, 1)
        topic.records[1][-1] = type(record)(1, record.offset, ours_next.headers, record.value)
        topic.add(theirs.value(theirs_next), theirs_next % 3)
    topic.add(theirs.value(theirs.total), 0)
    evil = topic.add(theirs.value(1), 1)
    topic.records[1][-1] = type(evil)(1, evil.offset, [(HEADER_NAME, b"\xc1")], evil.value)
    read_rest(parts, topic)
    assert parts.visible() == {b"ours": ours.content, b"theirs": theirs.content}
    assert bad(parts) == {"malformed": 1}  # what has kfd's header is kfd's, whatever its value


def test_a_route_of_kfds_format_takes_none_of_the_peers(
    ledger: Ledger, tmp_path: Path, topic: Topic
) -> None:
    with receiving(ledger, tmp_path / "data") as parts:
        topic.upload(PeerFile(bytes(12)))
        read_rest(parts, topic)
        assert bad(parts) == {"foreign": 3}
        assert parts.visible() == {}


def test_nobody_is_sent_receipts(parts: Receiving, topic: Topic) -> None:
    topic.upload(PeerFile(b"published"))
    topic.upload(PeerFile(b"quarantined", claims={"file": bytes(64)}))
    topic.add(PeerFile(b"expires", "hole").value(1), 0)
    read_rest(parts, topic)
    parts.receiver.pass_time(3601.0, [0, 1, 2])
    assert len(states(parts)) == 3
    assert parts.ledger.reader().execute("SELECT count(*) FROM receipt").fetchone() == (0,)
