"""Addresses of brokers, and what is advised where they let nobody in."""

from __future__ import annotations

import pytest

from kfd.examination.brokers import addresses, login_fix
from kfd.kafka import BrokerAddress


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ("b", [("b", 9092)]),
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        (" a:1 , SSL://b:2", [("a", 1), ("b", 2)]),
        ("[::1]:7", [("::1", 7)]),
    ],
)
def test_addresses(servers: str, found: list[tuple[str, int]]) -> None:
    assert list(addresses(servers)) == [BrokerAddress(*one) for one in found]


def test_an_address_is_shown_as_it_is_written() -> None:
    assert BrokerAddress("::1", 7).shown == "[::1]:7"
    assert BrokerAddress("b", 7).shown == "b:7"


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("SASL authentication error: Authentication failed", "sasl.password"),
        ("SSL handshake failed: certificate verify failed", "ssl.ca.location"),
        ("Disconnected while requesting ApiVersion", "security.protocol is plaintext"),
        ("something new", "broker's log"),
    ],
)
def test_what_to_do_about_the_login(reason: str, part: str) -> None:
    assert part in login_fix(reason, {})
