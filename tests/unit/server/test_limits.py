"""How long and how large a request may be, and how many may connect."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from kfd.daemon import peer
from kfd.daemon.server import channel, server
from kfd.daemon.server.pacing import ALLOWANCE
from kfd.varlink import MAX_REQUEST
from tests.control import MemoryOperations, serving
from tests.privileges import unprivileged
from tests.rawclient import Raw
from tests.support import eventually
from tests.unit.server.users import NOBODY, as_user, let_all_in, needs_root


def test_half_a_request_is_given_up(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.2)
    with Raw(served) as client:
        client.socket.sendall(b'{"method":"io.kfd')
        assert "not finished" in client.read()["parameters"]["text"]
        assert client.closed()


def test_half_a_request_after_a_whole_one_is_given_up(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.2)
    with Raw(served) as client:
        client.socket.sendall(b'{"method":"io.kfd.Control.GetStatus"}\0{"method":"io.kfd')
        assert "status" in client.read()["parameters"]
        assert "not finished" in client.read()["parameters"]["text"]
        assert client.closed()


def test_a_request_that_trickles_is_given_up(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the whole frame, not for each piece of it."""
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.3)
    with Raw(served) as client:
        client.socket.settimeout(0.05)

        def trickle() -> bool:
            try:
                client.socket.sendall(b" ")
                return bool(client.socket.recv(1))
            except TimeoutError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True

        eventually(trickle, deadline=10)


def test_a_silent_client_may_stay(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "FRAME_TIMEOUT", 0.05)
    with Raw(served) as client:
        client.call("GetStatus")
        with Raw(served) as other:  # ended by the limit that must not end the first
            other.socket.sendall(b"{")
            other.read()
        assert "status" in client.call("GetStatus")["parameters"]


def test_an_oversized_request_is_refused(raw: Raw) -> None:
    raw.socket.sendall(b" " * (MAX_REQUEST + 1))
    assert "longer" in raw.read()["parameters"]["text"]
    assert raw.closed()


def test_the_largest_request_is_taken(raw: Raw) -> None:
    frame = b'{"method":"io.kfd.Control.GetStatus"}'
    raw.socket.sendall(frame.ljust(MAX_REQUEST - 1) + b"\0")
    assert "status" in raw.read()["parameters"]


@pytest.mark.parametrize("frame", [b"[" * 60_000, b"\xff", b"{}", b"", b'{"method":5}'])
def test_what_is_no_request_ends_the_connection(served: Path, frame: bytes) -> None:
    with Raw(served) as client:
        client.socket.sendall(frame + b"\0")
        assert client.read()["error"] == "io.kfd.Control.Refused"
        assert client.closed()
    with Raw(served) as another:
        assert "status" in another.call("GetStatus")["parameters"]


def test_requests_may_follow_one_another_at_once(raw: Raw) -> None:
    frame = b'{"method":"io.kfd.Control.GetStatus"}\0'
    raw.socket.sendall(frame * 50)
    assert all("status" in raw.read()["parameters"] for _ in range(50))


def test_one_user_has_at_most_16_connections(served: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(served)) for _ in range(16)]
        for client in clients:
            client.call("GetStatus")
        refused = stack.enter_context(Raw(served))
        assert "too many" in refused.read()["parameters"]["text"]
        assert refused.closed()
        clients[0].socket.close()
        eventually(lambda: _admitted(served))


def _admitted(path: Path) -> bool:
    with Raw(path) as client:
        try:
            return "error" not in client.call("GetStatus")
        except (BrokenPipeError, ConnectionResetError):
            return False


def test_one_connection_is_kept_for_root(
    socket_path: Path, operations: MemoryOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    with serving(socket_path, operations), ExitStack() as stack:
        let_all_in(socket_path)
        with unprivileged():
            others = [stack.enter_context(Raw(socket_path)) for _ in range(3)]
        assert "too many" in others[2].read()["parameters"]["text"]
        assert "status" in stack.enter_context(Raw(socket_path)).call("GetStatus")["parameters"]


def test_who_is_turned_away_again_and_again_has_to_wait(
    socket_path: Path, operations: MemoryOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is waited for no longer than root may notice."""
    needs_root()
    monkeypatch.setattr(server, "MAX_CONNECTIONS_OF_A_USER", 0)
    monkeypatch.setattr(server, "_TURNING_AWAY", 0.75 * ALLOWANCE)
    waited: list[float] = []
    with serving(socket_path, operations) as running:
        let_all_in(socket_path)
        monkeypatch.setattr(running.stopping, "wait", waited.append)
        with Raw(socket_path) as root:
            assert "too many" in root.read()["parameters"]["text"]
            assert root.closed()
        eventually(lambda: waited == [0.0])
        for _ in range(3):
            # another process: this one is the server's, who looks at its own user
            refused = as_user(NOBODY, [], NOBODY, lambda: Raw(socket_path).read())
            assert "too many" in refused["parameters"]["text"]
        eventually(lambda: len(waited) == 4)
    assert waited[1:] == [0.0, server._LONGEST_PAUSE, server._LONGEST_PAUSE]


def test_no_server_of_users_is_asked_by_the_thread_that_accepts(
    served: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be away, and then nobody would be answered."""
    caplog.set_level("INFO")
    asked: list[str] = []

    def name_of(uid: int) -> str:
        asked.append(threading.current_thread().name)
        return str(uid)

    monkeypatch.setattr(peer, "name_of", name_of)
    monkeypatch.setattr(server, "MAX_CONNECTIONS_OF_A_USER", 1)
    with Raw(served) as first, Raw(served) as second:
        assert "too many" in second.read()["parameters"]["text"]
        first.call("GetStatus")
    assert f"user {os.geteuid()} is turned away" in caplog.text
    assert "control" not in asked
