"""The log: entries for the journal over a real socket, and plain lines for people."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon import journal, journald
from kfd.daemon.journal import JournalHandler
from kfd.daemon.journald import MAX_TRANSFERS, Journal, entries, field
from kfd.daemon.messageids import About, Message, about, log_batch
from kfd.paths import MAX_PATH
from tests.support import CHECKOUT

TID = bytes(range(16))


def fields(entry: bytes) -> dict[str, list[str]]:
    """An entry as the journal reads it (systemd's JOURNAL_NATIVE_PROTOCOL)."""
    found: dict[str, list[str]] = defaultdict(list)
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found[name.decode("ascii")].append(value.decode("utf-8"))
        entry = rest
    return dict(found)


class Journald:
    """The journal's end of the socket. The kernel keeps few datagrams that nobody reads."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(30)

    def read(self, count: int = 1) -> list[dict[str, list[str]]]:
        """The next entries, waited for."""
        return [fields(self._socket.recv(1 << 20)) for _ in range(count)]

    def read_all(self, log: logging.Logger) -> list[dict[str, list[str]]]:
        """The entries up to the end of the log, which is closed by this."""
        log.info("the end")
        found = []
        while (entry := self.read()[0])["MESSAGE"] != ["the end"]:
            found.append(entry)
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal_end(tmp_path: Path) -> Iterator[Journald]:
    end = Journald(tmp_path / "journal")
    yield end
    end.close()


@pytest.fixture
def log(journal_end: Journald) -> Iterator[logging.Logger]:
    """A logger whose lines go to the journal."""
    logger = logging.getLogger("kfd.test-journal")
    handler = JournalHandler(Journal(journal_end.path))
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers[:], logger.propagate = [], True
    handler.close()


@pytest.mark.parametrize(
    ("level", "priority"),
    [("CRITICAL", "3"), ("ERROR", "3"), ("WARNING", "4"), ("INFO", "6"), ("DEBUG", "7")],
)
def test_entry_has_text_priority_and_identifier(
    journal_end: Journald, log: logging.Logger, level: str, priority: str
) -> None:
    log.log(getattr(logging, level), "a %s", "b")
    assert journal_end.read() == [
        {"MESSAGE": ["a b"], "PRIORITY": [priority], "SYSLOG_IDENTIFIER": ["kfd"]}
    ]


def test_entry_says_what_it_is_about(journal_end: Journald, log: logging.Logger) -> None:
    told = about(
        Message.PUBLISHED, route="lab", transfers=[(TID, b"a.trc"), (TID[::-1], b"b\n\xff.trc")]
    )
    log.info("published two", extra=told)
    (entry,) = journal_end.read()
    assert entry["MESSAGE_ID"] == [Message.PUBLISHED.value]
    assert entry["KFD_ROUTE"] == ["lab"]
    assert entry["KFD_TRANSFER"] == [
        "000102030405060708090a0b0c0d0e0f", "0c0d0e0f",
        "0f0e0d0c0b0a09080706050403020100", "03020100",
    ]  # fmt: skip
    assert entry["KFD_PATH"] == ["a.trc", "b\\x0a\\xff.trc"]


def test_fix_is_a_part_of_the_one_line(journal_end: Journald, log: logging.Logger) -> None:
    log.error("kfd.yaml:9: wrong", extra=about(Message.REFUSED_TO_START, fix="write it\nright"))
    (entry,) = journal_end.read()
    assert entry["MESSAGE"] == ["kfd.yaml:9: wrong (fix: write it\\x0aright)"]


@given(st.text(), st.text())
def test_no_value_becomes_another_field(text: str, route: str) -> None:
    (entry,) = entries(6, f"{text}\nPRIORITY=0", About(route=f"{route}\nMESSAGE=forged\n"))
    found = fields(entry)
    assert found["PRIORITY"] == ["6"]
    assert len(found["MESSAGE"]) == 1
    assert found["KFD_ROUTE"] == [
        f"{route}\nMESSAGE=forged\n".encode("utf-8", "backslashreplace").decode()
    ]


@given(st.binary(max_size=100))
def test_any_value_comes_through(value: bytes) -> None:
    text = value.decode("utf-8", "replace")
    assert fields(field("NAME", text)) == {"NAME": [text]}


def test_a_big_batch_becomes_several_entries_that_the_journal_takes(
    journal_end: Journald, log: logging.Logger
) -> None:
    """Its limits are 1,024 fields, and what a datagram holds with the kernel's defaults."""
    files = [("lab", n.to_bytes(16, "big"), b"\xff" * (MAX_PATH - 3)) for n in range(500)]
    log_batch(log, Message.QUEUED, "queued", files)
    found = journal_end.read_all(log)
    assert [tid for one in found for tid in one["KFD_TRANSFER"][::2]] == [
        tid.hex() for _, tid, _ in files
    ]
    for one in found:
        assert one["MESSAGE"][0].endswith("and 499 more")
        assert sum(map(len, one.values())) < 1024


def test_entries_of_short_names_are_bounded_in_number() -> None:
    many = list(entries(6, "x", About(transfers=[(TID, b"a")] * (2 * MAX_TRANSFERS + 1))))
    assert [len(fields(one)["KFD_PATH"]) for one in many] == [MAX_TRANSFERS, MAX_TRANSFERS, 1]


def test_long_message_is_cut(journal_end: Journald, log: logging.Logger) -> None:
    log.info("%s", "x" * 1_000_000)
    (entry,) = journal_end.read()
    assert entry["MESSAGE"] == ["x" * journald.MAX_MESSAGE]


def test_full_journal_holds_nobody_up_and_what_is_missing_is_told(
    journal_end: Journald, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "MAX_WAITING", 100_000)
    # pytest adds some of its own
    (handler,) = [one for one in log.handlers if isinstance(one, JournalHandler)]
    sent = 0
    while handler._journal._dropped < 10:
        log.info("line %d", sent)  # would wait for ever if it waited
        sent += 1
    taken = journal_end.read(500)  # makes room
    taken += journal_end.read_all(log)
    lines = [one["MESSAGE"][0].split() for one in taken]
    missing = [int(words[0]) for words in lines if words[1:3] == ["lines", "of"]]
    numbers = [int(words[1]) for words in lines if words[0] == "line"]
    assert sum(missing) >= 10
    assert len(numbers) + sum(missing) == sent
    assert numbers == sorted(numbers)
    assert {one["PRIORITY"][0] for one in taken if "lines of" in one["MESSAGE"][0]} == {"4"}


def test_nothing_is_lost_while_the_journal_is_restarted(
    journal_end: Journald, log: logging.Logger
) -> None:
    journal_end.close()
    Path(journal_end.path).unlink()
    log.info("meanwhile")
    again = Journald(Path(journal_end.path))
    log.info("after")
    assert [one["MESSAGE"] for one in again.read(2)] == [["meanwhile"], ["after"]]
    again.close()


def test_what_was_logged_last_arrives(journal_end: Journald) -> None:
    """As the reason why a start failed."""
    ours = Journal(journal_end.path)
    (entry,) = entries(3, "wrong", About())
    for _ in range(100):
        ours.write(entry)
    reader = threading.Thread(target=lambda: got.extend(journal_end.read(100)))
    got: list[dict[str, list[str]]] = []
    reader.start()
    ours.close()
    reader.join()
    assert len(got) == 100


def test_close_does_not_wait_for_a_journal_that_hangs(
    journal_end: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "CLOSE_SECONDS", 0.01)
    ours = Journal(journal_end.path)
    (entry,) = entries(6, "x", About())
    for _ in range(2000):  # more than the kernel keeps
        ours.write(entry)
    ours.close()
    assert ours._thread.is_alive()
    ours._thread.join(30)
    ours.close()


# Which of the two


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root, kfd = logging.getLogger(), logging.getLogger("kfd")
    before = (root.handlers[:], root.level, kfd.level)
    yield root
    for one in root.handlers:
        if isinstance(one, JournalHandler):
            one.close()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    kfd.setLevel(before[2])


@pytest.mark.parametrize("is_journal", [True, False])
def test_journal_is_known_by_its_stream(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root_logger: logging.Logger,
    journal_end: Journald,
    is_journal: bool,
) -> None:
    monkeypatch.setattr(journal, "Journal", lambda: Journal(journal_end.path))
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        inode = status.st_ino if is_journal else status.st_ino + 1
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{inode}")
        monkeypatch.setattr("sys.stderr", stream)
        journal.set_up(verbose=False)
        logging.getLogger("kfd.x").info("hello")
        logging.getLogger("kfd.x").debug("not shown")
        logging.getLogger("other").info("not shown")
        told = [one["MESSAGE"] for one in journal_end.read()] if is_journal else []
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert told == ([["hello"]] if is_journal else [])
    assert [line.endswith(" hello") for line in lines] == ([] if is_journal else [True])


def test_without_the_native_socket_the_stream_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root_logger: logging.Logger
) -> None:
    monkeypatch.setattr(journal, "Journal", lambda: Journal(str(tmp_path / "absent")))
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        monkeypatch.setattr("sys.stderr", stream)
        journal.set_up(verbose=False)
        logging.getLogger("kfd.x").warning("hello")
    assert (tmp_path / "stderr").read_text().endswith(" warning: hello\n")


def test_stderr_without_a_descriptor_is_no_journal(
    monkeypatch: pytest.MonkeyPatch, root_logger: logging.Logger
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    journal.set_up(verbose=True)
    logging.getLogger("kfd.x").debug("shown")
    assert stream.getvalue().endswith("debug: shown\n")


# Plain lines


def plain(level: int, message: str, *args: object, fix: str = "") -> str:
    record = logging.LogRecord("kfd.x", level, "x.py", 1, message, args, None)
    record.__dict__.update(about(fix=fix))
    return journal._PlainFormatter().format(record)


@given(st.text())
def test_no_message_makes_a_line_of_its_own(text: str) -> None:
    line = plain(logging.INFO, "%s", f"{text}\n<0>forged\x1b[2J\x85\u2028")
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_plain_lines_name_what_is_not_information() -> None:
    assert plain(logging.WARNING, "x").endswith(" warning: x")
    assert plain(logging.INFO, "x").endswith(" x")
    assert "info" not in plain(logging.INFO, "x")


def test_fix_is_a_line_below() -> None:
    what, fix = plain(logging.ERROR, "wrong", fix="mend\nit").splitlines()
    assert what.endswith("error: wrong")
    assert fix.endswith("error:   fix: mend\\x0ait")


def test_place_of_an_error_is_told_innermost_first() -> None:
    def inner() -> None:
        raise ValueError("secret")

    try:
        inner()
    except ValueError as error:
        text = journal.where(error)
    first, second = text.split(" < ")
    assert first.startswith("test_journal.py:")
    assert first.endswith("in inner")
    assert second.endswith("in test_place_of_an_error_is_told_innermost_first")
    assert "secret" not in text


def test_every_kind_of_message_is_documented() -> None:
    """Those who filter by MESSAGE_ID rely on it; docs/operations.md is where they find it."""
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    rows = [line.split("`") for line in text.splitlines() if line.startswith("| `")]
    documented = {row[1]: row[3] for row in rows if len(row) == 5 and len(row[3]) == 32}
    assert documented == {one.name.lower().replace("_", "-"): one.value for one in Message}
