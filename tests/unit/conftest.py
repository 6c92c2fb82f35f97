"""What many unit tests begin with: a ledger, what receives into it, a server over memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.ledger import Ledger
from tests.control import MemoryOperations, serving
from tests.parts import Receiving, receiving, running_ledger
from tests.sender import Sender, running_sender
from tests.unit.reloading import Running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that runs."""
    with running_ledger(tmp_path / "state") as ledger:
        yield ledger


@pytest.fixture
def parts(ledger: Ledger, tmp_path: Path) -> Iterator[Receiving]:
    """What receives and publishes, into ``data``."""
    with receiving(ledger, tmp_path / "data") as parts:
        yield parts


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    """The ledger of a sender, and receipts that come to it."""
    with running_sender(tmp_path) as sender:
        yield sender


@pytest.fixture
def operations() -> MemoryOperations:
    """The daemon behind the socket."""
    return MemoryOperations()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "kfd.sock"


@pytest.fixture
def served(socket_path: Path, operations: MemoryOperations) -> Iterator[Path]:
    with serving(socket_path, operations):
        yield socket_path


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """What a reload changes, and the file that it reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        made = Running(tmp_path)
        yield made
        made.stop()
        made.notifier._systemd.socket.close()
