"""kfdctl as people and scripts run it: a process of its own, with pipes and with a terminal."""

from __future__ import annotations

import grp
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfd import __version__
from kfd.control import Problem, State
from kfd.ctl.__main__ import main
from kfd.ctl.cli import kfdctl
from kfd.ctl.client import connect
from kfd.ctl.render import clock, elapsed
from kfd.ctl.send import Progress
from kfd.daemon.operations import DrainProgress
from kfd.errors import NotPermittedError
from tests.control import VERSION, MemoryOperations, busy_status, serving, transfer
from tests.privileges import unprivileged
from tests.support import CHECKOUT, eventually, unavailable

TID = "00" * 12 + "9f2c41d7"
NOON = time.mktime((2024, 5, 17, 12, 0, 0, 0, 0, -1))
DEADLINE = 30  # seconds


@pytest.fixture
def operations() -> MemoryOperations:
    return MemoryOperations()


@pytest.fixture
def served(tmp_path: Path, operations: MemoryOperations) -> Iterator[Path]:
    with serving(tmp_path / "kfd.sock", operations):
        yield tmp_path / "kfd.sock"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run42.trc"
    path.write_bytes(b"v" * 2048)
    return path


def environment(**more: str) -> dict[str, str]:
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**plain, "PYTHONPATH": str(CHECKOUT), "LANG": "C.UTF-8", "TERM": "xterm"} | more


def start(*arguments: str | Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kfd.ctl", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        env=environment(**more),
    )


def run(*arguments: str | Path, **more: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with start(*arguments, **more) as process:
        out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, out, err


def run_json(*arguments: str | Path) -> dict[str, Any]:
    code, out, err = run("--json", *arguments)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document.pop("version") == 1
    return dict(document)


class Terminal:
    """kfdctl on a terminal of 80 columns."""

    def __init__(self, *arguments: str | Path, **more: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(
                sys.executable,
                [sys.executable, "-m", "kfd.ctl", *map(str, arguments)],
                environment(COLUMNS="80", **more),
            )
        self.screen = ""

    def read_until(self, pattern: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while not re.search(pattern, self.screen):
            assert time.monotonic() < deadline, self.screen
            if not self._read(0.1):
                break
        assert re.search(pattern, self.screen), self.screen
        return self.screen

    def _read(self, patience: float) -> bool:
        """False once the process has closed the terminal."""
        if not select.select([self.master], [], [], patience)[0]:
            return True
        try:
            self.screen += os.read(self.master, 65536).decode()
        except OSError:
            return False
        return True

    def interrupt(self) -> None:
        os.write(self.master, b"\x03")

    def end(self) -> int:
        """The exit code, once all that it wrote is read."""
        deadline = time.monotonic() + DEADLINE
        while self._read(0.1):
            assert time.monotonic() < deadline, self.screen
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

# --- the command line -----------------------------------------------------------------------


def test_help_leads_with_what_people_use() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    verbs = re.findall(r"^  ([a-z]+) ", out[: out.index("Options:")], re.MULTILINE)
    assert verbs == ["send", "status", "list", "quit", "wait", "config", "version"]


@pytest.mark.parametrize(
    "verb", ["send", "status", "list", "quit", "wait", "config", "config check", "version"]
)
def test_every_verb_has_help(verb: str) -> None:
    code, out, _ = run(*verb.split(), "--help")
    assert code == 0
    assert "--socket" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], 'there is no verb "stats"; did you mean "status"?'),
        (["xyzzy"], 'there is no verb "xyzzy"'),
        ([], "Missing command"),
        (["config"], "Missing command"),
        (["status", "--chek"], "No such option"),
        (["status", "more"], "Got unexpected extra argument (more)"),
        (["send"], "Missing argument 'PATH...'"),
        (["list", "--limit", "0"], "0 is not in the range 1<=x<=10000"),
        (["wait", "xyz"], "xyz is no id of a transfer"),
        (["wait", TID, "--timeout", "soon"], "'soon' is not a duration"),
        (["send", "-"], "standard input cannot be sent yet"),
        (["send", "/etc"], "/etc is a directory"),
        (["send", "/etc/hostname", "--meta", "x"], "--meta x: write it as KEY=VALUE"),
        (["send", "/etc/hostname", "--meta", "x=1", "--meta", "x=2"], "given twice"),
        (["send", "/etc/hostname", "/etc/hosts", "--name", "n"], "--name is for one file"),
        (["send", "/dev/null", "--connect-timeout", "-1"], "not a duration"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("kfdctl: ")
    assert message in err


@pytest.mark.parametrize("verb", ["status", "list", "quit", f"wait {TID}", "send /etc/hostname"])
def test_it_says_when_kfd_does_not_run(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "no.sock"
    code, out, err = run("--socket", path, *verb.split())
    assert (code, out) == (3, "")
    assert err == (
        f"kfdctl: kfd is not running (no {path})\n"
        "  fix: systemctl start kfd; journalctl -u kfd\n"
    )  # fmt: skip


def test_a_stale_socket_is_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    code, _, err = run("status", "--socket", path)
    assert code == 3
    assert f"nothing listens at {path}" in err


def test_global_options_work_before_and_after_the_verb(served: Path) -> None:
    before = run("--json", "--socket", served, "--connect-timeout", "5s", "list")
    after = run("list", "--json", "--socket", served, "--connect-timeout", "5")
    assert before == after == (0, '{\n  "version": 1,\n  "transfers": []\n}\n', "")


def test_where_the_socket_is_looked_for(served: Path, tmp_path: Path) -> None:
    assert run("list", KFD_SOCKET=str(served))[0] == 0
    assert run("list", "--socket", served, KFD_SOCKET=str(tmp_path / "none"))[0] == 0
    (tmp_path / "kfd").mkdir()
    (tmp_path / "kfd/kfd.sock").symlink_to(served)
    assert run("list", XDG_RUNTIME_DIR=str(tmp_path))[0] == 0


def test_who_may_not_connect_learns_how_to(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        unavailable("only root can be somebody else")
    for directory in tmp_path.parents[:-2]:
        directory.chmod(directory.stat().st_mode | 0o111)
    tmp_path.chmod(0o711)
    with unprivileged(), pytest.raises(NotPermittedError) as caught:
        connect(served, 5)
    assert str(caught.value) == f"nobody may not use {served}"
    assert caught.value.fix.startswith("use sudo")
    os.chown(served, -1, grp.getgrnam("daemon").gr_gid)
    served.chmod(0o660)
    with unprivileged(), pytest.raises(NotPermittedError) as caught:
        connect(served, 5)
    assert caught.value.fix == "sudo usermod -aG daemon nobody, then log in again"


def test_nobody_reading_is_no_error_worth_a_word(
    served: Path, operations: MemoryOperations
) -> None:
    for number in range(5000):
        tid = f"{number:032x}"
        operations.known[tid] = transfer(tid, path="p" * 100)
    with start("list", "--limit", "5000", "--socket", served) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE) == 1


def test_an_unknown_failure_is_one_message(served: Path, operations: MemoryOperations) -> None:
    operations.failure = ZeroDivisionError("oops")
    code, out, err = run("status", "--socket", served)
    assert (code, out) == (70, "")
    assert err == (
        "kfdctl: kfd failed at this request; its log says why\n  fix: journalctl -u kfd\n"
    )


def test_a_bug_of_its_own_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(kfdctl, "main", broken)
    monkeypatch.setattr(sys, "argv", ["kfdctl", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("kfdctl: a bug in kfdctl: ZeroDivisionError: oops\n  fix: report it")
    assert len(err.splitlines()) == 2


# --- send -----------------------------------------------------------------------------------


def test_send_says_where_and_waits(served: Path, operations: MemoryOperations, trace: Path) -> None:
    code, out, err = run("send", trace, "--socket", served, "--meta", "run=42", "--meta", "e=a=b")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == "run42.trc  2 KiB  scope3 -> lecroy_files  id 9f2c41d7"
    assert re.fullmatch(
        r"In Kafka after [0-9.]+ s; not yet confirmed by a receiver\."
        r"  See: kfdctl wait --until delivered 9f2c41d7",
        second,
    )
    (request,) = operations.sent
    assert request.meta == {"run": "42", "e": "a=b"}
    assert [file.source for file in request.files] == [os.fsencode(trace)]
    assert [(file.name, file.fallback) for file in request.files] == [(None, None)]
    assert operations.contents == [b"v" * 100]


def test_send_waits_for_a_receiver(served: Path, operations: MemoryOperations, trace: Path) -> None:
    terminal = Terminal("send", trace, "--until", "delivered", "--socket", served)
    terminal.read_until(r"In Kafka; waiting for a receiver   \(Ctrl-C detaches\)")
    operations.update(TID, state=State.DELIVERED)
    assert terminal.end() == 0
    assert re.search(r"\r\x1b\[KDelivered after [0-9.]+ s\.", terminal.screen)


def test_send_says_which_receivers_did_not_take_it(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    terminal = Terminal("send", trace, "--until", "delivered", "--socket", served)
    terminal.read_until("waiting for a receiver")
    operations.update(TID, state=State.FAILED, reason="quarantined at lab2: digest-mismatch")
    assert terminal.end() == 10
    assert "run42.trc failed: quarantined at lab2: digest-mismatch" in terminal.screen


def test_send_passes_its_options_on(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    options = ["--route", "r", "--topic", "t", "--name", "a/b.trc", "--again"]
    assert run("send", trace, "--socket", served, *options)[0] == 0
    (request,) = operations.sent
    assert (request.route, request.topic, request.again) == ("r", "t", True)
    assert request.files[0].name == b"a/b.trc"


def test_send_json(served: Path, operations: MemoryOperations, trace: Path) -> None:
    answer = run_json("send", trace, "--socket", served)
    (sent,) = answer["files"]
    assert sent["tid"] == TID
    assert (sent["path"], sent["size"], sent["already"]) == ("run42.trc", 2048, False)
    assert [one["state"] for one in answer["transfers"]] == ["in_kafka"]


def test_send_follows_symbolic_links_that_are_named(
    served: Path, operations: MemoryOperations, trace: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(trace)
    assert run("send", tmp_path / "link", "--socket", served)[0] == 0
    assert operations.sent[0].files[0].source == os.fsencode(trace)


def test_send_until_queued_does_not_wait(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    code, out, _ = run("send", trace, "--until", "queued", "--socket", served)
    assert code == 0
    assert out.splitlines()[1] == "Queued.  See: kfdctl list"


def test_send_dry_run(served: Path, operations: MemoryOperations, trace: Path) -> None:
    code, out, err = run("send", trace, "--dry-run", "--socket", served)
    assert (code, err) == (0, "")
    assert out == "run42.trc  2 KiB  scope3 -> lecroy_files  would be sent\n"
    assert operations.sent[0].dry_run
    assert operations.known == {}


def test_send_says_what_was_sent_already(served: Path, tmp_path: Path) -> None:
    (tmp_path / "old.trc").write_bytes(b"")
    code, out, _ = run("send", tmp_path / "old.trc", "--until", "queued", "--socket", served)
    assert code == 0
    assert out == "old.trc  0 B  scope3 -> lecroy_files  was sent already, id 9f2c41d7\n"


def test_send_goes_on_past_a_refused_file(served: Path, tmp_path: Path, trace: Path) -> None:
    (tmp_path / "bad.trc").write_bytes(b"")
    code, out, err = run("send", tmp_path / "bad.trc", trace, "--socket", served)
    assert code == 1
    assert err == "kfdctl: bad.trc: no route takes it\n  fix: --route R\n"
    assert out.startswith("run42.trc  2 KiB")


def test_send_names_what_it_cannot_read(served: Path, tmp_path: Path) -> None:
    code, _, err = run("send", tmp_path / "missing\x1b[31m", "--socket", served)
    assert (code, err) == (1, f"kfdctl: {tmp_path}/missing\\x1b[31m: No such file or directory\n")
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run("send", tmp_path / "pipe", "--socket", served)
    assert (code, err) == (2, f"kfdctl: {tmp_path}/pipe is not a regular file\n")


def test_send_recursive_takes_regular_files_from_the_directorys_name_on(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    top = tmp_path / "week 7"
    (top / "b").mkdir(parents=True)
    for name in ("z", "b/y", "a;x"):
        (top / name).write_text(name)
    with open(os.fsencode(top) + b"/caf\xe9", "w"):
        pass
    (top / "link").symlink_to("z")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "pipe")
    code, out, err = run("send", f"{top}/", "--recursive", "--dry-run", "--socket", served)
    assert (code, err) == (0, "")
    assert "caf\\xe9  0 B" in out
    names = [file.fallback for request in operations.sent for file in request.files]
    assert sorted(filter(None, names)) == [
        b"week 7/a;x", b"week 7/b/y", b"week 7/caf\xe9", b"week 7/z",
    ]  # fmt: skip


def test_send_makes_batches_of_many_files(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    top = tmp_path / "many"
    top.mkdir()
    for number in range(600):
        (top / f"{number:03}").touch()
    code, out, err = run("send", top, "--recursive", "--socket", served)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 601
    assert "In Kafka (600 files, 0 B) after" in out.splitlines()[-1]
    assert [len(request.files) for request in operations.sent] == [253, 253, 94]


def test_send_keeps_requests_small(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    top = tmp_path / ("d" * 200) / ("e" * 200)
    top.mkdir(parents=True)
    for number in range(200):
        (top / f"{number:03}{'n' * 240}").touch()
    code, _, err = run("send", top, "--recursive", "--until", "queued", "--socket", served)
    assert (code, err) == (0, "")
    assert sum(len(request.files) for request in operations.sent) == 200
    assert len(operations.sent) > 1


def test_send_tells_of_a_failure(served: Path, operations: MemoryOperations, trace: Path) -> None:
    operations.ends_at_once = False
    with start("send", trace, "--socket", served) as process:
        eventually(lambda: TID in operations.known)
        operations.update(
            TID,
            state=State.FAILED,
            reason="lecroy_files takes 262144 bytes a record, chunk_size 524288 does not fit",
            fix="chunk_size: 128KiB",
        )
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 10
    assert err == (
        "run42.trc failed: lecroy_files takes 262144 bytes a record, chunk_size 524288"
        " does not fit\n  fix: chunk_size: 128KiB\n"
    )


def test_send_follows_the_transfer_that_takes_over(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    successor = "11" * 16
    with start("send", trace, "--socket", served, "--json") as process:
        eventually(lambda: TID in operations.known)
        operations.known[successor] = transfer(successor)
        operations.update(TID, state=State.CANCELLED, reason="changed", successor=successor)
        operations.update(successor, state=State.IN_KAFKA)
        out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert [one["tid"] for one in json.loads(out)["transfers"]] == [successor]


def test_send_times_out_and_the_work_goes_on(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    code, _, err = run("send", trace, "--timeout", "300ms", "--socket", served)
    assert code == 75
    assert err == "kfdctl: timed out; the transfer goes on\n  fix: kfdctl wait 9f2c41d7\n"


def test_send_when_kfd_stops_meanwhile(
    tmp_path: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    path = tmp_path / "kfd.sock"
    with serving(path, operations):
        process = start("send", trace, "--socket", path)
        eventually(lambda: TID in operations.known)
        assert process.stdout is not None
        process.stdout.readline()
    with process:
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 3
    assert "kfd stopped meanwhile; the transfer goes on when it is started again" in err


def test_send_on_a_terminal_shows_progress_and_detaches(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    terminal = Terminal("send", trace, "--socket", served)
    terminal.read_until(r"  0%  0   \(Ctrl-C detaches\)")
    operations.move(TID, 1024)
    screen = terminal.read_until(r"\r\x1b\[K 50%  [0-9.]+ k?B/s  [0-9.]+m?s left   \(Ctrl-C det")
    assert screen.startswith("run42.trc  2 KiB  scope3 -> lecroy_files  id 9f2c41d7\r\n")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Detached; the transfer goes on.  See: kfdctl wait 9f2c41d7" in terminal.screen
    assert operations.known[TID].state is State.SENDING


def test_progress_is_taken_away_at_the_end(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    terminal = Terminal("send", trace, "--socket", served)
    terminal.read_until("Ctrl-C")
    operations.update(TID, state=State.IN_KAFKA, done=2048)
    assert terminal.end() == 0
    assert re.search(r"\r\x1b\[KIn Kafka after [0-9.]+ s; not yet", terminal.screen)


def test_an_interrupt_without_a_terminal_detaches_too(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    with start("send", trace, "--socket", served) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "Detached; the transfer goes on.  See: kfdctl wait 9f2c41d7\n" in err


def test_progress_of_nothing_is_no_division_by_it() -> None:
    assert Progress(0, 1).text([transfer(TID, size=0)]) == "  0%  0   (Ctrl-C detaches)"


# --- status ---------------------------------------------------------------------------------


def test_status(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status(NOON)
    code, out, err = run("status", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "kfd 9.8.7 on scope3: DEGRADED, up 3d 4h, brokers 3/3, 42 MB/s out, 0 in\n"
        "ROUTE  QUEUED SENDING IN-KAFKA DELIVERED FAILED LAST\n"
        "scope3      2       1        4     1,204      0 2024-05-17 run42.trc\n"
        "xrd1        0       0        0       310      0 -\n"
        "ROUTE   RECEIVING PUBLISHED RECORDS BAD         LAG LAST\n"
        "archive         1     1,514  88,120 3 (foreign)   0 2024-05-17 xrd1/a7.raw\n"
        "threads 5+5; queue 812/3000 records; quarantine 0; disk 81 GiB free\n"
        "! xrd1: /srv/instruments/xrd1 not mounted since 2024-05-17\n"
        "  fix: mount it\n"
    )


def test_status_on_a_terminal_fits_and_has_colour(
    served: Path, operations: MemoryOperations
) -> None:
    now = busy_status(NOON)
    long = replace(now.uploads[0], last="x" * 200)
    operations.now = replace(now, uploads=(long,))
    terminal = Terminal("status", "--socket", served)
    assert terminal.end() == 0
    assert "\x1b[31m\x1b[1mDEGRADED\x1b[0m" in terminal.screen
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.screen)
    assert all(len(line) <= 80 for line in plain.splitlines())
    assert "xx…" in plain
    bare = Terminal("status", "--socket", served, NO_COLOR="1")
    assert bare.end() == 0
    assert "\x1b" not in bare.screen


def test_status_check(served: Path, operations: MemoryOperations) -> None:
    assert run("status", "--check", "--socket", served)[0] == 0
    operations.now = replace(operations.now, problems=(Problem("kafka", "away", "", NOON),))
    assert run("status", "--check", "--socket", served)[0] == 1
    assert run("status", "--socket", served)[0] == 0


def test_status_says_what_degrades_nothing(served: Path, operations: MemoryOperations) -> None:
    note = Problem("archive", "no receipts", "allow them", NOON, degrades=False)
    operations.now = replace(operations.now, problems=(note,))
    code, out, _ = run("status", "--check", "--socket", served)
    assert code == 0
    assert "! archive: no receipts since" in out
    assert "running" in out


def test_status_says_which_receipts_were_not_used(
    served: Path, operations: MemoryOperations
) -> None:
    busy = busy_status(NOON)
    uploads = [replace(route, bad={"unknown": 2}) for route in busy.uploads]
    operations.now = replace(busy, uploads=uploads)
    lines = run("status", "--socket", served)[1].splitlines()
    assert lines.count("receipts about lecroy_files not used: 2 (unknown)") == 1


def test_status_json(served: Path, operations: MemoryOperations) -> None:
    operations.now = busy_status(NOON)
    status = run_json("status", "--socket", served)["status"]
    assert status["uploads"][0]["queued"] == 2
    assert status["downloads"][0]["bad"] == {"foreign": 3, "malformed": 0}
    assert status["state"] == "degraded"


def test_reasons_are_told_apart(served: Path, operations: MemoryOperations) -> None:
    now = busy_status(NOON)
    route = replace(now.downloads[0], bad={"foreign": 1003, "malformed": 2}, lag=None)
    operations.now = replace(now, downloads=(route,))
    assert "1,005 (foreign 1,003, malformed 2)   ?" in run("status", "--socket", served)[1]


def test_elapsed_is_written_as_people_do() -> None:
    assert [elapsed(s) for s in (0.04, 4.52, 36, 60, 302)] == [
        "0 s",
        "4.5 s",
        "36 s",
        "1m",
        "5m 2s",
    ]


def test_clock_is_short_for_what_is_near() -> None:
    assert clock(NOON, NOON + 60) == "12:00"
    assert clock(NOON, NOON + 86400) == "Fri 12:00"
    assert clock(NOON, NOON + 30 * 86400) == "2024-05-17"
    assert clock(NOON + 86400, NOON) == "2024-05-18"


# --- list, wait -----------------------------------------------------------------------------


def known(operations: MemoryOperations) -> None:
    for number, state in enumerate((State.IN_KAFKA, State.FAILED, State.PUBLISHED)):
        tid = f"{number:032x}"
        reason = "no such topic" if state is State.FAILED else ""
        operations.known[tid] = transfer(
            tid, path=f"f{number}", state=state, queued_at=NOON, reason=reason
        )


def test_list(served: Path, operations: MemoryOperations) -> None:
    known(operations)
    code, out, err = run("list", "--socket", served)
    assert (code, err) == (0, "")
    assert out == (
        "ID       STATE     ROUTE    SIZE AT         PATH\n"
        "00000002 published scope3 1000 B 2024-05-17 f2\n"
        "00000001 failed    scope3 1000 B 2024-05-17 f1 (no such topic)\n"
        "00000000 in-kafka  scope3 1000 B 2024-05-17 f0\n"
    )


def test_list_selects(served: Path, operations: MemoryOperations) -> None:
    known(operations)
    select_failed = run_json("list", "--state", "failed", "--socket", served)["transfers"]
    assert [one["path"] for one in select_failed] == ["f1"]
    select_kafka = run_json("list", "--state", "in-kafka", "--socket", served)["transfers"]
    assert [one["path"] for one in select_kafka] == ["f0"]
    assert len(run_json("list", "--limit", "2", "--socket", served)["transfers"]) == 2
    assert run("list", "--route", "none", "--socket", served) == (0, "", "No transfers.\n")


def test_wait(served: Path, operations: MemoryOperations) -> None:
    known(operations)
    code, out, _ = run("wait", "00000000", f"{2:032x}", "--socket", served)
    assert (code, out) == (0, "f0  in-kafka  id 00000000\nf2  published  id 00000002\n")
    code, out, err = run("wait", "00000001", "--socket", served)
    assert (code, err) == (10, "f1 failed: no such topic\n")
    until = ("--until", "delivered", "--timeout", "300ms")
    code, out, err = run("wait", "00000000", *until, "--socket", served)
    assert (code, out) == (75, "")
    operations.update(f"{0:032x}", state=State.DELIVERED)
    code, out, err = run("wait", "00000000", "--until", "delivered", "--socket", served)
    assert (code, out) == (0, "f0  delivered  id 00000000\n")
    listed = run_json("list", "--state", "delivered", "--socket", served)["transfers"]
    assert [one["path"] for one in listed] == ["f0"]
    code, out, err = run("wait", "77777777", "--socket", served)
    assert (code, err) == (12, "kfdctl: no transfer 77777777\n  fix: see kfdctl list\n")


# --- quit -----------------------------------------------------------------------------------


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon in a process of its own, which ends when it is told to, as the real one does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.test_ctl", tmp_path / "kfd.sock"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def serve_until_told(path: Path) -> None:
    """The other process: three transfers are left until a line comes in."""
    operations = MemoryOperations()
    operations.left = DrainProgress(3, 612 << 20)
    with serving(path, operations):
        print("ready", flush=True)
        sys.stdin.readline()
        operations.set_left(0, 0)
        operations.stopped.wait(DEADLINE)


def test_quit_waits_until_the_daemon_is_gone(
    tmp_path: Path, other_process: subprocess.Popen[str]
) -> None:
    with start("quit", "--socket", tmp_path / "kfd.sock") as process:
        assert process.stdout is not None
        started = os.read(process.stdout.fileno(), 1000).decode()
        assert started == "No new files taken. Finishing 3 transfers (612 MiB) ... "
        assert other_process.stdin is not None
        other_process.stdin.write("\n")
        other_process.stdin.flush()
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"done\nkfd stopped after [0-9.]+ s\.\n", out)
    assert other_process.wait(DEADLINE) == 0


def test_quit_now_leaves_the_rest(tmp_path: Path, other_process: subprocess.Popen[str]) -> None:
    with start("quit", "--now", "--socket", tmp_path / "kfd.sock") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "No new files taken. 3 transfers (612 MiB) left to the next start\n"
        assert other_process.stdin is not None
        other_process.stdin.write("\n")
        other_process.stdin.flush()
        assert process.wait(DEADLINE) == 0
    assert other_process.wait(DEADLINE) == 0


def test_quit_interrupted_goes_on_stopping(
    tmp_path: Path, other_process: subprocess.Popen[str]
) -> None:
    terminal = Terminal("quit", "--socket", tmp_path / "kfd.sock")
    terminal.read_until(r"Finishing 3 transfers \(612 MiB\) \.\.\. ")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Interrupted; kfd goes on stopping." in terminal.screen
    assert other_process.stdin is not None
    other_process.stdin.write("\n")
    other_process.stdin.flush()
    assert other_process.wait(DEADLINE) == 0


# --- config, version ------------------------------------------------------------------------


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    upload = tmp_path / "in"
    (upload / "sub").mkdir(parents=True)
    (upload / ".kfd").mkdir()
    for name in ("a", "sub/b", "sub/c.tmp", ".kfd/x", ".hidden"):
        (upload / name).write_bytes(b"x" * 1024)
    path = tmp_path / "kfd.yaml"
    path.write_text(
        "kafka:\n  bootstrap.servers: k:9092\n  sasl.password: topsecret\n"
        f"uploads:\n  scope3:\n    directory: {upload}\n    topic: t\n"
    )
    return path


def test_config_check_counts_what_waits(configuration: Path, tmp_path: Path) -> None:
    code, out, err = run("config", "check", "--config", configuration)
    assert (code, err) == (0, "")
    assert out == (
        f"{configuration}: valid; 1 upload, 0 downloads\nscope3: 2 files, 2 KiB in {tmp_path}/in\n"
    )
    checked = run_json("config", "check", "--config", configuration)
    assert checked["valid"] is True
    assert (checked["uploads"][0]["files"], checked["uploads"][0]["bytes"]) == (2, 2048)


def test_config_check_tells_every_fault(configuration: Path) -> None:
    configuration.write_text(configuration.read_text().replace("topic: t", "topc: t\n    sned: x"))
    code, out, err = run("config", "check", "--config", configuration)
    assert (code, out) == (78, "")
    assert 'kfd.yaml:7: uploads.scope3.topc: unknown key\n  fix: did you mean "topic"?' in err
    assert "kfd.yaml:8: uploads.scope3.sned: unknown key" in err
    assert "Traceback" not in err


def test_config_check_says_which_directory_is_missing(configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "in").rename(tmp_path / "away")
    code, _, err = run("config", "check", "--config", configuration)
    assert (code, err) == (1, f"! scope3: {tmp_path}/in: No such file or directory\n")


def test_config_show_hides_secrets(configuration: Path) -> None:
    code, out, _ = run("config", "show", "--config", configuration)
    assert code == 0
    assert "topsecret" not in out
    assert "chunk_size: 512KiB" in out
    assert "topsecret" not in json.dumps(run_json("config", "show", "--config", configuration))


def test_config_needs_the_file(tmp_path: Path) -> None:
    code, _, err = run("config", "check", "--config", tmp_path / "none.yaml")
    assert code == 78
    assert "none.yaml" in err


def test_version(served: Path, tmp_path: Path) -> None:
    assert run("version", "--socket", served)[1] == f"kfdctl {__version__}\nkfd {VERSION}\n"
    code, out, _ = run("version", "--socket", tmp_path / "none")
    assert (code, out) == (0, f"kfdctl {__version__}\nkfd does not answer\n")
    assert run_json("version", "--socket", served) == {"kfdctl": __version__, "kfd": VERSION}
    assert run("--version")[1] == f"kfdctl {__version__}\n"


def test_it_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys; from kfd.ctl.cli import kfdctl;"
        "import kfd.ctl.status, kfd.ctl.send, kfd.ctl.transfers, kfd.ctl.quit, kfd.ctl.config;"
        "print([m for m in ('pydantic', 'rich', 'confluent_kafka', 'yaml', 'pathspec', 'blake3')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    assert done.stdout == "[]\n"


if __name__ == "__main__":
    serve_until_told(Path(sys.argv[1]))
