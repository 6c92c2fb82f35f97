"""Verbs, options and their errors; when no daemon answers; what it loads to start."""

from __future__ import annotations

import grp
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kfd import __version__
from kfd.ctl.__main__ import main
from kfd.ctl.cli import kfdctl
from kfd.ctl.client import connect
from kfd.errors import NotPermittedError
from tests.control import TID, VERSION, MemoryOperations, event, transfer
from tests.privileges import unprivileged
from tests.support import CHECKOUT, unavailable
from tests.unit.ctl.kfdctl import DEADLINE, Terminal, environment, run, run_json, start

FILE = "/etc/hostname"


def test_help_leads_with_what_people_use() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    verbs = re.findall(r"^  ([a-z]+) ", out[: out.index("Options:")], re.MULTILINE)
    assert verbs[:6] == ["send", "status", "list", "top", "doctor", "quit"]


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
        (["send"], "Missing argument 'PATH...|-'"),
        (["list", "--limit", "0"], "0 is not in the range 1<=x<=10000"),
        (["wait", "xyz"], "xyz is no id of a transfer"),
        (["wait", TID, "--timeout", "soon"], "'soon' is not a duration"),
        (["send", "-"], "- is standard input: one file, with a --name"),
        (["send", "-", "--name", "n", "file"], "- is standard input: one file, with a --name"),
        (["send", "/etc"], "/etc is a directory"),
        (["send", "/etc/hostname", "--meta", "x"], "--meta x: write it as KEY=VALUE"),
        (["send", "/etc/hostname", "--meta", "x=1", "--meta", "x=2"], "given twice"),
        (["send", "/etc/hostname", "/etc/hosts", "--name", "n"], "--name is for one file"),
        (["send", "/dev/null", "--connect-timeout", "-1"], "less than nothing"),
        (["config", "chek"], 'there is no verb "chek"; did you mean "check"?'),
        (["completion"], "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish\n"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("kfdctl: ")
    assert message in err


LONG = "x" * 4000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["send", FILE, "--meta", f"a={LONG}", "--meta", f"b={LONG}"], "8,002 bytes together"),
        (["list", "--meta", f"a={LONG}", "--meta", f"b={LONG}"], "8,002 bytes together"),
        (["send", FILE, "--meta", "a=\udcff"], "'--meta': a=\\xff isn't UTF-8"),
        (["send", FILE, "--name", ""], "'--name': it is empty"),
        (["send", FILE, "--name", LONG], "'--name': it has 4,000 bytes, 1,024 are the most"),
        (["send", FILE, "--route", "\udcff"], "'--route': \\xff isn't UTF-8"),
        (["send", FILE, "--topic", "\udcff"], "'--topic': \\xff isn't UTF-8"),
        (["send", FILE, "--topic", LONG], "'--topic': it has 4,000 bytes"),
        (["list", "--name", "\udcff"], "'--name': \\xff isn't UTF-8"),
        (["list", "--name", LONG * 17], "'--name': it has 68,000 bytes"),
        (["list", *[f"--meta={n}=" for n in range(17)]], "--meta: given 17 times, 16 are the most"),
        (["pause", "\udcff"], "'[ROUTE]': \\xff isn't UTF-8"),
        (["retry", "--failed", "--route", "\udcff"], "'--route': \\xff isn't UTF-8"),
        (["quarantine", "release", TID, "--to", ""], "'--to': it is empty"),
        (["catalogue", "retry", "--catalogue", "\udcff"], "'--catalogue': \\xff isn't UTF-8"),
        (["backup", ""], "'FILE': it is empty"),
        (["inspect", "topic", "t", "--extract", TID, "-o", ""], "'--output': it is empty"),
        (["quarantine", "purge", "--yes", *[TID] * 2000], "more than a request holds"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_the_daemon_would_not_understand(
    served: Path, arguments: list[str], message: str
) -> None:
    """It would be told as a version mismatch."""
    code, out, err = run("--socket", served, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_names_that_are_not_text_are_taken(served: Path, operations: MemoryOperations) -> None:
    assert run("send", FILE, "--name", "\udcff", "--socket", served)[2] == ""
    assert operations.sent[0].files[0].name == b"\xff"


ESCAPES = "q\x1b[31m\x07\nz"


@pytest.mark.parametrize(
    "arguments",
    [
        [ESCAPES], ["config", ESCAPES], ["status", ESCAPES], ["status", f"--{ESCAPES}"],
        ["config", "check", ESCAPES], ["config", "show", ESCAPES], ["config", "import", ESCAPES],
        ["status", "--socket", ESCAPES], ["send", ESCAPES],
        ["send", FILE, "--meta", ESCAPES], ["send", FILE, "--meta", f"{ESCAPES}=1", "--meta",
        f"{ESCAPES}=1"], ["backup", f"/nowhere/{ESCAPES}"], ["inspect", "file", ESCAPES],
        ["doctor", "--socket", ESCAPES, "--config", ESCAPES], ["doctor", "--config", ESCAPES],
        ["list", "--route", ESCAPES],
    ],
    ids=lambda value: " ".join(value)[:20].encode("unicode_escape").decode(),
)  # fmt: skip
def test_what_is_given_moves_no_cursor(served: Path, arguments: list[str]) -> None:
    """On a terminal: in a pipe click takes some of it away itself."""
    terminal = Terminal(*arguments, KFD_SOCKET=str(served), NO_COLOR="1")
    terminal.end()
    assert r"q\x1b[31m\x07" in terminal.screen
    assert re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", terminal.screen) is None
    assert not any(line.startswith("z") for line in terminal.lines)


def in_shell(served: Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``kfdctl`` with what a shell understands after it."""
    command = f'exec "{sys.executable}" -m kfd.ctl --socket "{served}" {line}'
    return subprocess.run(
        ["/bin/sh", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(**more),
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "verb",
    [
        "status", "list", "events --follow", "--json list", "completion bash", "metrics",
        f"inspect file {FILE}", f"--json inspect file {FILE}",
    ],
)  # fmt: skip
def test_a_full_disk_under_stdout(
    served: Path, operations: MemoryOperations, verb: str, unbuffered: str
) -> None:
    operations.known[TID] = transfer(TID)
    operations.happens(event(TID))
    done = in_shell(served, f"{verb} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (
        1,
        "kfdctl: stdout can't be written: No space left on device\n"
        "  fix: free space there, or redirect it\n",
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_missing(served: Path, closed: str) -> None:
    done = in_shell(served, f"status {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_sent_of_a_stdin_that_is_missing(
    served: Path, operations: MemoryOperations
) -> None:
    done = in_shell(served, "send - --name n <&-")
    assert done.returncode == 1
    assert done.stderr.startswith("kfdctl: -: standard input can't be read: ")
    assert operations.sent == []


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
    document = '{\n  "version": 1,\n  "transfers": [],\n  "complete": true\n}\n'
    assert before == after == (0, document, "")


def test_where_the_socket_is_looked_for(served: Path, tmp_path: Path) -> None:
    assert run("list", KFD_SOCKET=str(served))[0] == 0
    assert run("list", "--socket", served, KFD_SOCKET=str(tmp_path / "none"))[0] == 0
    (tmp_path / "kfd").mkdir()
    (tmp_path / "kfd/kfd.sock").symlink_to(served)
    assert run("list", XDG_RUNTIME_DIR=str(tmp_path))[0] == 0


def test_who_may_not_connect_learns_how_to(served: Path, operations: MemoryOperations) -> None:
    if os.geteuid() != 0:
        unavailable("only root can be somebody else")
    for directory in served.parents[:-2]:
        directory.chmod(directory.stat().st_mode | 0o111)
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
