"""What a published file is: its mode, mtime, mark, name; and how few descriptors that takes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from kfd.daemon.ledger import Ledger
from kfd.daemon.publishing import mark
from kfd.daemon.publishing.mark import Mark, lineage, read_mark
from kfd.daemon.publishing.partials import MAX_DESCRIPTORS
from tests.parts import TOPIC, TOPIC_ID, Receiving, Sent, receiving
from tests.unit.publishing.streams import Stream, states


def test_published_file_has_mode_mtime_and_mark(parts: Receiving, stream: Stream) -> None:
    sent = Sent(b"abcdefgh", b"d/run.trc", mode=0o777)
    stream.receive(sent)
    path = parts.root / "d" / "run.trc"
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_mtime_ns == sent.mtime_ns
    assert stat.S_IMODE((parts.root / "d").stat().st_mode) == 0o750
    with path.open("rb") as file:
        mark = read_mark(file.fileno())
    assert mark == Mark(
        lineage(TOPIC, "scope3", b"d/run.trc"), sent.generation, sent.tid, 8, sent.mtime_ns
    )
    assert mark is not None
    assert mark.fits(status)


@pytest.mark.parametrize(
    ("mode", "published"), [(0o600, 0o600), (0o4755, 0o640), (0o004, 0), (0o444, 0o440)]
)
def test_mode_is_bounded_by_the_routes(
    parts: Receiving, stream: Stream, mode: int, published: int
) -> None:
    stream.receive(Sent(b"x", mode=mode))
    assert stat.S_IMODE((parts.root / "run.trc").stat().st_mode) == published


def test_umask_changes_nothing(parts: Receiving, stream: Stream) -> None:
    old = os.umask(0o777)
    try:
        stream.receive(Sent(b"x", b"a/b/c"))
    finally:
        os.umask(old)
    modes = [parts.root / "a", parts.root / "a" / "b", parts.root / "a" / "b" / "c"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in modes] == [0o750, 0o750, 0o640]


@pytest.mark.parametrize("mtime_ns", [0, -1_000_000_001, 4_000_000_000_987_654_321])
def test_any_mtime_is_kept(parts: Receiving, stream: Stream, mtime_ns: int) -> None:
    stream.receive(Sent(b"x", mtime_ns=mtime_ns))
    assert (parts.root / "run.trc").stat().st_mtime_ns == mtime_ns


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"; rm -rf *", b"-rf", b"x" * 255, b" "])
def test_any_legal_name(parts: Receiving, stream: Stream, name: bytes) -> None:
    stream.receive(Sent(b"x", b"d/" + name))
    assert parts.visible() == {b"d/" + name: b"x"}


def test_layout_places_origins_apart(ledger: Ledger, tmp_path: Path) -> None:
    with receiving(ledger, tmp_path / "data", layout="{topic}/{origin}/{path}") as parts:
        one, other = Sent(b"1", b"a/x"), Sent(b"2", b"a/x", origin="xrd1")
        Stream(parts).receive(one, other)
        top = TOPIC.encode()
        assert parts.visible() == {top + b"/scope3/a/x": b"1", top + b"/xrd1/a/x": b"2"}


def descriptors(parts: Receiving) -> int:
    """How many descriptors are open, this thread's connection to the ledger included."""
    states(parts.ledger)
    return len(os.listdir("/proc/self/fd"))


def test_more_files_in_a_batch_than_descriptors(parts: Receiving, stream: Stream) -> None:
    sent = [Sent(b"%d" % n, b"%d" % n) for n in range(MAX_DESCRIPTORS + 20)]
    before = descriptors(parts)
    stream.receive(*sent)
    assert parts.visible() == {one.path: one.content for one in sent}
    assert descriptors(parts) <= before


def test_partials_keep_few_descriptors_open(parts: Receiving) -> None:
    sent = [Sent(b"abcdefgh", b"%d" % n) for n in range(MAX_DESCRIPTORS + 20)]
    records = [one.records(offset=2 * n) for n, one in enumerate(sent)]
    before = descriptors(parts)
    parts.receiver.receive([first for first, _ in records])
    assert descriptors(parts) <= before + MAX_DESCRIPTORS
    ends = [replace(end, offset=1000 + n) for n, (_, end) in enumerate(records)]
    parts.receiver.receive(ends)
    assert parts.visible() == {one.path: one.content for one in sent}
    assert parts.parts() == []


def test_which_part_of_a_name_is_in_the_way(ledger: Ledger, tmp_path: Path) -> None:
    with receiving(ledger, tmp_path / "data") as parts:
        (parts.root / "one").mkdir()
        (parts.root / "one/two\n").write_bytes(b"in the way")
        sent = Sent(b"x", b"one/two\n/three/four")
        Stream(parts).receive(sent)
        assert states(ledger)[sent.tid] == (
            "quarantined", r"its name can't be used here: Not a directory: one/two\x0a",
        )  # fmt: skip


def test_a_failure_of_a_call_on_a_descriptor_is_quarantined(
    parts: Receiving, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name that such an error bears is a number."""
    (parts.root / "run.trc").write_bytes(b"theirs")
    getxattr = os.getxattr

    def away(fd: int, name: str) -> bytes:
        if name == mark.XATTR:
            raise OSError(errno.EHOSTDOWN, "Host is down", fd)
        return getxattr(fd, name)

    monkeypatch.setattr(os, "getxattr", away)
    sent = Sent(b"x")
    stream.receive(sent)
    reason = "its name can't be used here: Host is down"
    assert states(parts.ledger)[sent.tid] == ("quarantined", reason)


def test_name_too_long_with_its_origin_is_quarantined(ledger: Ledger, tmp_path: Path) -> None:
    with receiving(ledger, tmp_path / "data", layout="{origin}/{path}") as parts:
        deep, fine = Sent(b"x", b"/".join([b"d" * 203] * 5)), Sent(b"y", b"y")
        Stream(parts).receive(deep, fine)
        assert parts.visible() == {b"scope3/y": b"y"}
        state, reason = states(ledger)[deep.tid]
        assert (state, reason.startswith("its name can't be used here")) == ("quarantined", True)
        assert parts.parts() == []


def test_new_partial_does_not_write_into_a_published_file(parts: Receiving) -> None:
    """A link made and the partial's name not yet removed: both names are one file."""
    parts.receiver.receive(Sent(b"abcdefgh").records()[:1])
    (part,) = (parts.root / ".kfd").glob("*.part")
    os.link(part, parts.root / "published")
    again = Sent(b"ABCDEFGH", tid=bytes.fromhex(part.name[:32]))
    parts.receiver.drop([0])
    parts.receiver.take(0, TOPIC_ID, 0)
    os.link(parts.root / "published", part)
    parts.receiver.receive(again.records()[:1])
    assert (parts.root / "published").read_bytes() == b"abcd"
