"""Files that kfd can't open itself: accepted is accepted, and the spool is emptied."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kfd.daemon.crashpoint import VARIABLE
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import POWERLESS, Host
from tests.integration.oracle import digest
from tests.support import eventually, unavailable

NOWHERE = "127.0.0.1:1"  # where no broker is


def spooled(host: Host) -> list[str]:
    """What lies in its spool."""
    return os.listdir(host.state / "spool")


def piped(
    host: Host, content: bytes, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """``kfdctl send -`` with a pipe as its standard input."""
    return subprocess.run(
        host.ctl_command("send", *arguments),
        input=content,
        capture_output=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """A file that its sender may read and kfd may not."""
    if os.geteuid() != 0:
        unavailable("only root can hide a file from its own daemon")
    path = tmp_path / "hidden.trc"
    path.write_bytes(os.urandom(300_000))
    hide(path)
    return path


def hide(path: Path) -> None:
    os.chown(path, 65534, 65534)
    path.chmod(0o600)
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))


@pytest.fixture
def powerless(make_host: MakeHost) -> Host:
    """A daemon for which permissions count, running."""
    host = make_host(pools=ONE_READER)
    host.prefix = POWERLESS
    host.start()
    return host


def test_hidden_file_is_sent_and_its_copy_goes(powerless: Host, hidden: Path) -> None:
    done = powerless.ctl("send", "--until", "delivered", hidden)
    assert done.returncode == 0, done.stderr
    arrived = powerless.down / "hidden.trc"
    assert arrived.read_bytes() == hidden.read_bytes()
    assert arrived.stat().st_mtime_ns == hidden.stat().st_mtime_ns
    eventually(lambda: not spooled(powerless))
    eventually(lambda: powerless.status()["spool_used"] == 0)
    assert "was sent already" in powerless.ctl("send", hidden).stdout
    assert powerless.arrived() == 1


def test_what_was_accepted_outlives_its_source_and_a_kill(
    make_host: MakeHost, hidden: Path, bootstrap: str
) -> None:
    host = make_host(pools=ONE_READER, bootstrap=NOWHERE)
    host.prefix = POWERLESS
    host.start()
    content = hidden.read_bytes()
    done = host.ctl("send", "--until", "queued", hidden)
    assert done.returncode == 0, done.stderr
    assert host.status()["spool_used"] >= len(content)
    assert "spool " in host.ctl("status").stdout
    hidden.unlink()
    host.kill9()
    host.config.write_text(host.config.read_text().replace(NOWHERE, bootstrap))
    host.start()
    host.delivers("hidden.trc")
    assert host.published() == {b"hidden.trc": digest(content)}
    eventually(lambda: not spooled(host))


def test_copy_of_a_file_of_the_route_is_never_disposed_of(make_host: MakeHost) -> None:
    """``then`` is for what the watcher found."""
    if os.geteuid() != 0:
        unavailable("only root can hide a file from its own daemon")
    host = make_host(pools=ONE_READER, upload={"then": "delete"})
    host.prefix = POWERLESS
    host.put("hidden.trc", b"volts", old=True)
    hide(host.up / "hidden.trc")
    host.start()
    done = host.ctl("send", "--again", "--until", "delivered", host.up / "hidden.trc")
    assert done.returncode == 0, done.stderr
    eventually(lambda: not spooled(host))
    assert (host.up / "hidden.trc").read_bytes() == b"volts"


@pytest.mark.parametrize("content", [b"", b"volts", os.urandom(3_000_000)], ids=len)
def test_standard_input(host: Host, content: bytes) -> None:
    done = piped(host, content, "-", "--name", "run/piped.trc", "--until", "delivered")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"run/piped.trc  ")
    assert host.published() == {b"run/piped.trc": digest(content)}
    assert (host.down / "run" / "piped.trc").stat().st_mode & 0o040  # as a file of that umask
    eventually(lambda: not spooled(host))


def test_same_standard_input_twice_is_sent_twice(host: Host) -> None:
    for _ in range(2):
        assert piped(host, b"volts", "-", "--name", "piped.trc").returncode == 0
    assert host.arrived() == 2


def test_standard_input_is_bounded(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host(spool_max="1MiB", pools=ONE_READER)
    host.start()
    with Path("/dev/zero").open("rb") as zeros:
        endless = subprocess.run(
            host.ctl_command("send", "-", "--name", "zeros"),
            stdin=zeros,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert endless.returncode == 1
    assert endless.stderr.splitlines() == [
        "kfdctl: -: standard input has more than 1 MiB: spool_max of kfd",
        "  fix: write it to a file that kfd can read, or raise spool_max",
    ]
    more_than_a_share = piped(host, bytes(600_000), "-", "--name", "large")
    assert more_than_a_share.returncode == 1
    assert b"of 1 MiB one user may have 512 KiB now" in more_than_a_share.stderr
    nowhere = piped(host, b"volts", "-", "--name", "n", TMPDIR=str(tmp_path / "missing"))
    assert nowhere.returncode == 1
    assert b"standard input can't be kept in" in nowhere.stderr
    assert host.transfers() == []
    assert spooled(host) == []


@pytest.mark.parametrize("path", ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_file_that_does_not_say_its_size(host: Host, path: str) -> None:
    try:
        content = Path(path).read_bytes()
    except OSError:
        unavailable(f"there is no {path}")
    done = host.ctl("send", "--until", "delivered", path)
    assert done.returncode == 0, done.stderr
    assert host.published() == {os.fsencode(os.path.basename(path)): digest(content)}


Dying = Callable[[str], Host]


@pytest.fixture
def dying(make_host: MakeHost) -> Dying:
    """Makes a daemon that dies where a test says, sends it a file, and starts it again."""

    def die(point: str) -> Host:
        host = make_host(pools=ONE_READER)
        host.environment[VARIABLE] = point
        host.start()
        piped(host, b"volts", "-", "--name", "piped.trc", "--until", "delivered")
        eventually(lambda: not host.running)
        assert host.process is not None
        assert host.process.returncode == -signal.SIGKILL
        host.environment.clear()
        host.start()
        return host

    return die


@pytest.mark.parametrize("point", ["spool.created", "spool.copied", "spool.synced"])
def test_killed_before_it_is_accepted(dying: Dying, point: str) -> None:
    host = dying(point)
    assert spooled(host) == []
    assert host.status()["spool_used"] == 0
    assert host.transfers() == []


@pytest.mark.parametrize("point", ["sender.accepted-offer", "spool.given-up", "spool.removed"])
def test_killed_after_it_is_accepted(dying: Dying, point: str) -> None:
    host = dying(point)
    host.delivers("piped.trc")
    assert host.published() == {b"piped.trc": digest(b"volts")}
    eventually(lambda: not spooled(host))
    eventually(lambda: host.status()["spool_used"] == 0)
