"""A host with several addresses: one that swallows everything doesn't use up the others' time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from kfd.daemon.catalogue import exchange
from kfd.daemon.catalogue.exchange import Caller, Question
from kfd.daemon.catalogue.sink import SinkError
from tests.casjobs.server import casjobs_server, status

_QUESTION = {"Content-Type": "application/json"}


@pytest.fixture
def swallowing() -> Iterator[int]:
    """The port of one whose queue is full: further packets of his clients are dropped."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield server.getsockname()[1]


def has_addresses(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    found: list[Any] = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_the_next_address_is_tried_in_time(
    swallowing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SECONDS", 6.0)
    with casjobs_server() as casjobs:
        port = int(casjobs.url.rpartition(":")[2])
        has_addresses(monkeypatch, 1, swallowing, port)
        token = casjobs.token()
        casjobs.next(status(200, b"here"))
        answer = Caller(threading.Event()).ask(
            Question(
                "POST",
                "http://many.example/CasJobs/RestApi/contexts/MyDB/query?TaskName=kfd",
                {**_QUESTION, "Accept": "application/json+array", "X-Auth-Token": token},
                b'{"Query": "x", "TaskName": "kfd"}',
            )
        )
    assert answer.body == b"here"


def test_none_that_answers(swallowing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SECONDS", 0.3)
    has_addresses(monkeypatch, swallowing, swallowing)
    with pytest.raises(SinkError, match=r"no answer within 0\.3 s"):
        Caller(threading.Event()).ask(Question("POST", "http://many.example/", _QUESTION))


def test_the_last_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    has_addresses(monkeypatch, 1, 1)
    with pytest.raises(SinkError, match="can't be reached: Connection refused"):
        Caller(threading.Event()).ask(Question("POST", "http://many.example/", _QUESTION))
