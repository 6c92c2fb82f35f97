"""Reading a file to send it: one version, whole, whatever is done to it meanwhile."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from kfd.daemon.ledger.outgoing import LARGE, Outgoing
from kfd.daemon.outgoing.sending import CHANGED, GONE, Failure, Sending
from kfd.wire import Header, decode_headers
from tests.parts import version_of
from tests.privileges import unprivileged

CHUNK = 1024
INSTANCE = bytes(range(16))
RESUMED_AT = 2
CONTENT = os.urandom(4 * CHUNK + 100)


def row_of(path: Path, *, acked: int = 0, inodes: bool = True) -> Outgoing:
    """The ledger's row of a file as it is now."""
    one = version_of(path, inodes=inodes)
    return Outgoing(
        id=1,
        tid=bytes(16),
        route="lab",
        topic="t",
        path=b"d/" + one.path,
        source=one.source,
        device=one.device,
        inode=one.inode,
        size=one.size,
        mtime_ns=one.mtime_ns,
        mode=one.mode,
        generation=7,
        meta={"k": "v"},
        lane=LARGE,
        topic_id="topic-1",
        partition=3,
        chunk_size=CHUNK,
        acked=acked,
        first_offset=None,
        acked_at=None,
        not_before=0.0,
        uid=None,
    )


def start(path: Path, **options: int | bool) -> Sending:
    return Sending(row_of(path, **options), "scope3", INSTANCE)  # type: ignore[arg-type]


def read_all(sending: Sending) -> list[tuple[Header, bytes]]:
    """Records until the end or a failure; what a receiver's decoder makes of them."""
    records = []
    while sending.behind and sending.failure is None:
        sending.catch_up(2)  # as producers do: a few chunks a turn
    if sending.failure is not None:
        return records
    while not sending.read_to_end and (record := sending.read()) is not None:
        records.append((decode_headers(record[1]), record[2]))
    sending.close()
    return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.trc"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_file_becomes_records_that_give_it_back(path: Path, size: int) -> None:
    path.write_bytes(CONTENT[:size])
    sending = start(path)
    chunks = max(1, -(-size // CHUNK))
    assert sending.remaining() == (chunks, size)
    records = read_all(sending)
    assert sending.failure is None
    assert sending.remaining() == (0, 0)
    assert b"".join(value for _, value in records) == CONTENT[:size]
    assert [header.index for header, _ in records] == list(range(chunks))
    assert [header.begin is not None for header, _ in records] == [True] + [False] * (chunks - 1)
    end = records[-1][0].end
    assert end is not None
    assert (end.size, end.chunks, end.digest) == (*(size, chunks, blake3(CONTENT[:size]).digest()),)


def test_begin_says_what_the_ledger_says(path: Path) -> None:
    path.chmod(0o4751)
    row = row_of(path)
    begin = read_all(Sending(row, "scope3", INSTANCE))[0][0].begin
    assert begin is not None
    assert (begin.path, begin.topic, begin.origin, begin.instance) == (
        *(b"d/run.trc", "t", "scope3", INSTANCE),
    )
    assert (begin.generation, begin.size, begin.mtime_ns, begin.mode) == (
        *(7, row.size, row.mtime_ns, 0o751),
    )
    assert (begin.chunk_size, begin.chunks, begin.meta) == (CHUNK, 5, {"k": "v"})


@pytest.mark.parametrize("acked", [0, 1, 4])
def test_resume_gives_the_rest_and_the_same_digest(path: Path, acked: int) -> None:
    whole = read_all(start(path))
    resumed = start(path, acked=acked)
    assert resumed.remaining() == (5 - acked, len(CONTENT) - acked * CHUNK)
    assert read_all(resumed) == whole[acked:]


@pytest.mark.parametrize("size", [0, 100, CHUNK, CHUNK + 1])
def test_resume_of_what_was_acknowledged_whole_reads_nothing(path: Path, size: int) -> None:
    """Killed between the last acknowledgement and its note. The file may be gone by now."""
    path.write_bytes(CONTENT[:size])
    sending = start(path, acked=max(1, -(-size // CHUNK)))
    path.unlink()
    assert sending.read_to_end
    assert sending.complete
    assert sending.remaining() == (0, 0)
    assert sending.settled
    assert sending.failure is None


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    """Other bytes, the same size; the clock has moved on."""
    status = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns + 1))


def replace(path: Path) -> None:
    """Another file of the same size and mtime."""
    status, other = path.stat(), path.with_name("other")
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
    other.rename(path)


def by_symlink(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def by_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        old = os.getcwd()
        os.chdir(path.parent)  # an address is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(old)


IN_PLACE = [
    append,
    rewrite,
    lambda path: os.truncate(path, CHUNK),
    lambda path: os.truncate(path, 0),
]
SWAPPED = [replace, by_symlink, by_fifo, by_directory, by_socket]


@pytest.mark.parametrize("change", IN_PLACE)
@pytest.mark.parametrize("after", range(5))
def test_change_before_or_between_reads_is_seen(
    path: Path, change: Callable[[Path], object], after: int
) -> None:
    sending = start(path)
    for _ in range(after):
        assert sending.read() is not None
    change(path)
    records = read_all(sending)
    assert sending.failure is CHANGED
    assert not [header for header, _ in records if header.end is not None]


@pytest.mark.parametrize("change", IN_PLACE)
def test_change_after_the_last_read_is_another_version(
    path: Path, change: Callable[[Path], object]
) -> None:
    sending = start(path)
    records = read_all(sending)
    change(path)
    assert sending.failure is None
    assert b"".join(value for _, value in records) == CONTENT


@pytest.mark.parametrize("change", IN_PLACE)
def test_change_while_the_prefix_is_read_again(
    path: Path, change: Callable[[Path], object]
) -> None:
    sending = start(path, acked=RESUMED_AT)
    change(path)
    assert read_all(sending) == []
    assert sending.failure is CHANGED


def test_change_between_the_last_read_and_the_last_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending, read = start(path), os.pread

    def change_behind(fd: int, size: int, offset: int) -> bytes:
        chunk = read(fd, size, offset)
        if offset + len(chunk) == len(CONTENT):
            append(path)
        return chunk

    monkeypatch.setattr(os, "pread", change_behind)
    records = read_all(sending)
    assert sending.failure is CHANGED
    assert len(records) == 4


def test_short_reads_lose_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal or a network file system may give less than was asked for."""
    whole, read = read_all(start(path)), os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: read(fd, min(size, 300), offset))
    assert read_all(start(path, acked=RESUMED_AT)) == whole[RESUMED_AT:]


@pytest.mark.parametrize("change", SWAPPED)
@pytest.mark.parametrize("acked", [0, RESUMED_AT])
def test_another_thing_in_the_files_place_is_not_read(
    path: Path, change: Callable[[Path], object], acked: int
) -> None:
    sending = start(path, acked=acked)
    change(path)
    assert read_all(sending) == []
    assert sending.failure is CHANGED


@pytest.mark.parametrize("change", [by_fifo, by_directory, by_socket])
def test_it_is_not_read_where_inodes_mean_nothing(
    path: Path, change: Callable[[Path], object]
) -> None:
    sending = start(path, inodes=False)
    change(path)
    assert read_all(sending) == []
    assert sending.failure is CHANGED


def test_replaced_after_it_was_opened_the_old_one_is_read(path: Path) -> None:
    sending = start(path)
    assert sending.read() is not None
    replace(path)
    read_all(sending)
    assert sending.failure is None  # still that one version, which has no name any more


def test_inodes_are_not_compared_where_they_mean_nothing(path: Path) -> None:
    sending = start(path, inodes=False)
    copy, status = path.with_name("copy"), path.stat()
    copy.write_bytes(CONTENT)
    os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
    copy.rename(path)
    assert len(read_all(sending)) == 5
    assert sending.failure is None


def test_file_that_went_is_gone(path: Path) -> None:
    sending = start(path)
    path.unlink()
    assert read_all(sending) == []
    assert sending.failure is GONE
    ending = sending.ending("failed", sending.failure)
    assert (ending.state, ending.look_again, ending.acked) == ("failed", True, 0)


def test_directory_that_went_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "d" / "run.trc"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    sending = start(path)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_bytes(b"a file now")
    assert read_all(sending) == []
    assert sending.failure is GONE


def test_file_removed_while_it_is_open_is_sent(path: Path) -> None:
    sending = start(path)
    assert sending.read() is not None
    path.unlink()
    assert len(read_all(sending)) == 4
    assert sending.failure is None


def test_file_that_may_not_be_read_says_so(path: Path) -> None:
    sending = start(path)
    path.chmod(0)
    with unprivileged():
        assert read_all(sending) == []
    assert sending.failure is not None
    assert sending.failure.state == "failed"
    assert "may not read" in sending.failure.reason
    assert sending.failure.fix


def test_read_error_only_interrupts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sending = start(path)

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    assert sending.read() is None
    assert sending.failure is not None
    assert sending.failure.state == ""
    assert "Input/output error" in sending.failure.reason  # so that people can be told
    sending.close()


def test_first_failure_stays() -> None:
    path = Path(__file__)
    sending = start(path)
    sending.fail(GONE)
    sending.fail(Failure("failed", "later"))
    assert sending.failure is GONE


def test_descriptor_is_closed(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sending = start(path)
    sending.read()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    sending.close()
    sending.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_progress_and_settling_count_reports(path: Path) -> None:
    sending = start(path)
    sending.produced, sending.returned, sending.acked, sending.first_offset = 3, 2, 2, 17
    assert not sending.settled
    progress = sending.progress(99.0)
    assert (progress.id, progress.acked, progress.first_offset, progress.acked_at) == (
        *(1, 2, 17, 99.0),
    )
    sending.returned = 3
    assert sending.settled
    assert not sending.complete
