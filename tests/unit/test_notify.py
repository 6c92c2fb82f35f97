"""What systemd is told."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.notify import Notifier, watchdog_interval


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the notification socket."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield end


@pytest.fixture
def notifier(systemd: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier()
    yield notifier
    notifier._systemd.socket.close()


def test_systemd_is_told(systemd: socket.socket, notifier: Notifier) -> None:
    notifier.ready()
    notifier.status("running")
    notifier.status("running")
    notifier.watchdog()
    notifier.status("degraded: full")
    notifier.stopping(40)
    told = [systemd.recv(4096).decode() for _ in range(5)]
    assert told == [
        "READY=1",
        "STATUS=running",
        "WATCHDOG=1",
        "STATUS=degraded: full",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000",
    ]


def test_reload_is_told_with_its_time(systemd: socket.socket, notifier: Notifier) -> None:
    """The time tells systemd which READY ends this reload."""
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    after = time.monotonic_ns() // 1000
    state, _, told = systemd.recv(4096).decode().partition("\n")
    assert state == "RELOADING=1"
    name, _, value = told.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= after


@pytest.mark.parametrize("path", ["/srv/ä", "/srv/測定", "/srv/\udcff", "/srv/🔬"])
def test_status_of_any_path_arrives_as_utf8(
    systemd: socket.socket, notifier: Notifier, path: str
) -> None:
    notifier.status(f"degraded: {path}")
    notifier.ready()
    assert systemd.recv(4096).decode().startswith("STATUS=degraded: /srv/")
    assert systemd.recv(4096) == b"READY=1"


def test_status_can_say_nothing_but_a_status(systemd: socket.socket, notifier: Notifier) -> None:
    """Problems name paths, and a path may hold a line feed."""
    notifier.status("degraded: /srv/a\nMAINPID=1\nSTOPPING=1")
    told = systemd.recv(4096).decode()
    assert told.startswith("STATUS=degraded: /srv/a")
    assert len(told.splitlines()) == 1


# sdnotify leaves the closing of a socket that it couldn't connect to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()
    gc.collect()


@pytest.mark.parametrize(
    ("value", "seconds"), [("", 5.0), ("1000000", 0.5), ("60000000", 5.0), ("x", 5.0)]
)
def test_watchdog_is_fed_twice_as_often_as_it_must(
    monkeypatch: pytest.MonkeyPatch, value: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", value)
    assert watchdog_interval() == seconds
