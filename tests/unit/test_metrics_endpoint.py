"""The endpoint for Prometheus: one path, one method, and nobody holds it up for long."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kfd.config.address import Address
from kfd.daemon.health import Health
from kfd.daemon.metrics import endpoint as endpoints
from kfd.daemon.metrics import request
from kfd.daemon.metrics.endpoint import Endpoint
from tests.support import eventually

TEXT = "# HELP kfd_x Y.\nkfd_x 1.0\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(one: Endpoint) -> Iterator[Endpoint]:
    deaths: list[BaseException] = []
    one.start(lambda _, error: deaths.append(error))
    try:
        yield one
    finally:
        one.stop()
        assert one.join(10)
    assert not deaths


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def address(health: Health) -> Iterator[Address]:
    """Where one answers."""
    address = Address("127.0.0.1", free_port())
    with running(Endpoint(address, lambda: TEXT, health)):
        eventually(lambda: listens(address), 10)
        yield address


def listens(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) == 0


def ask(address: Address, head: bytes) -> bytes:
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(head)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


def get(address: Address, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    """Status, type of the content, and content."""
    question = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with urllib.request.urlopen(question, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_metrics(address: Address) -> None:
    status, kind, text = get(address)
    assert (status, text) == (200, TEXT)
    assert kind.startswith("text/plain; version=0.0.4")
    assert get(address, "/metrics?x=1")[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/metrics/", "GET", 404),
        ("/metrics", "POST", 405),
        ("/metrics", "DELETE", 405),
    ],
)
def test_nothing_else(address: Address, path: str, method: str, status: int) -> None:
    assert get(address, path, method)[0] == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 4000, b"431"),
    ],
)
def test_what_is_no_request(address: Address, head: bytes, status: bytes) -> None:
    try:
        answer = ask(address, head)
    except ConnectionResetError:  # it was told before it had sent all
        answer = b"HTTP/1.1 " + status
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert get(address)[0] == 200


def test_one_who_says_nothing_is_left(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "SECONDS", 0.2)
    with socket.create_connection((address.host, address.port), timeout=10) as silent:
        silent.sendall(b"GET /met")
        assert get(address)[0] == 200
        assert silent.recv(100) == b""


def drip(slow: socket.socket) -> None:
    for _ in range(1000):
        slow.sendall(b"G")
        time.sleep(0.01)


def test_one_who_drips_is_left(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, all of them don't."""
    monkeypatch.setattr(request, "SECONDS", 0.2)
    with socket.create_connection((address.host, address.port), timeout=10) as slow:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            drip(slow)
        assert get(address)[0] == 200


def test_what_fails_is_said_and_it_goes_on(health: Health) -> None:
    address = Address("127.0.0.1", free_port())
    texts = iter([ValueError("no"), TEXT])

    def text() -> str:
        one = next(texts)
        if isinstance(one, str):
            return one
        raise one

    with running(Endpoint(address, text, health)):
        eventually(lambda: listens(address), 10)
        assert get(address)[0] == 500
        assert get(address)[0] == 200


def test_an_address_that_is_taken_is_a_problem_until_it_is_free(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "RETRY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address("127.0.0.1", other.getsockname()[1])
        one = Endpoint(address, lambda: TEXT, health)
        with running(one):
            eventually(lambda: health.degraded, 10)
            (problem,) = health.problems()
            assert problem.scope == "metrics"
            assert problem.text == f"nothing can listen at {address}: Address already in use"
            other.close()
            eventually(lambda: not health.problems(), 10)
            assert get(address)[0] == 200


def test_it_moves_and_goes_while_it_runs(health: Health) -> None:
    first, second = (Address("127.0.0.1", free_port()) for _ in range(2))
    with running(Endpoint(None, lambda: TEXT, health)) as one:
        one.use(first)
        eventually(lambda: listens(first), 10)
        one.use(second)
        eventually(lambda: listens(second), 10)
        assert not listens(first)
        one.use(None)
        eventually(lambda: not listens(second), 10)
    assert not health.problems()
