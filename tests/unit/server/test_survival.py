"""The server goes on after bugs, garbage and want of descriptors, and closes all at its end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.control import TID, MemoryOperations, serving, transfer
from tests.rawclient import Raw
from tests.support import eventually
from tests.unit.server.held import connection_threads, open_files


def test_a_bug_is_answered_and_logged_and_the_daemon_goes_on(
    served: Path, operations: MemoryOperations, caplog: pytest.LogCaptureFixture
) -> None:
    operations.failure = ZeroDivisionError("a secret")
    with Raw(served) as client:
        answer = client.call("GetStatus")
        assert answer["parameters"]["exit_code"] == 70
        assert "secret" not in json.dumps(answer)
        assert client.closed()
    assert "ZeroDivisionError" in caplog.text
    operations.failure = None
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]


def test_the_end_closes_every_connection(socket_path: Path, operations: MemoryOperations) -> None:
    operations.known[TID] = transfer(TID)
    before = open_files()
    with ExitStack() as stack:
        with serving(socket_path, operations):
            silent, waiting = (stack.enter_context(Raw(socket_path)) for _ in range(2))
            waiting.write("Wait", {"tids": [TID], "until": "in_kafka"}, more=True)
            waiting.read()
            silent.call("GetStatus")
        assert silent.closed()
        assert waiting.closed()
        assert not socket_path.exists()
    assert connection_threads() == 0
    assert {target for _, target in open_files()} <= {target for _, target in before}


def test_no_descriptors_left_is_survived(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon's limit is reached: a client waits, and is served when there is room again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        client.connect(str(served))
        client.sendall(b'{"method":"io.kfd.Control.GetStatus"}\0')
        eventually(lambda: "cannot accept" in caplog.text)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with client:
        assert b"status" in client.recv(65536)


def test_random_bytes_do_no_harm(served: Path) -> None:
    pieces = [os.urandom(200) for _ in range(30)] + [b"\0" * 100, b'{"method":"' * 50]
    for piece in pieces:
        with Raw(served) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.socket.sendall(piece + b"\0")
            client.socket.shutdown(socket.SHUT_WR)
            while client.socket.recv(65536):
                pass
    assert connection_threads() <= 1
    with Raw(served) as client:
        assert "status" in client.call("GetStatus")["parameters"]
