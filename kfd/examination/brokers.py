"""Can the brokers be reached, at the addresses that are configured and at those that they
advertise, and do they let kfd in?"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping

from kfd.control.examination import Check
from kfd.errors import KfdError
from kfd.examination.checks import doubtful, skipped, well, wrong
from kfd.kafka import BrokerAddress, ClusterView

CONNECT_SECONDS = 3.0
DEFAULT_PORT = 9092

LOGIN = "login"  # the name of that check
# As librdkafka words them. A port that speaks otherwise hangs up in the midst of a handshake, so
# these are looked for in this order.
_REFUSED = re.compile(r"authenticat|credential|password", re.IGNORECASE)
_OTHER_PROTOCOL = re.compile(
    r"listener\?|supported mechanisms: *(\(|$)|disconnected|apiversion|connection closed",
    re.IGNORECASE,
)
_SASL = re.compile(r"sasl", re.IGNORECASE)
_TLS = re.compile(r"ssl|tls|certificate|handshake", re.IGNORECASE)
_MEND_SASL = "mend sasl.username, sasl.password or sasl.mechanism in kafka:, then restart kfd"
_ADVERTISED = (
    "it is the address that the broker tells its clients (advertised.listeners): it has to be right"
    " as seen from here; look at the name service, routes and firewalls too"
)


def look_at_brokers(properties: Mapping[str, str], cluster: ClusterView) -> Iterator[Check]:
    """Each address that is configured, the login, each address that is advertised."""
    configured = addresses(properties.get("bootstrap.servers", ""))
    problems = {address: _reach(address) for address in configured}
    reached = [address for address, problem in problems.items() if problem is None]
    for address, problem in problems.items():
        if problem is None:
            yield well(f"broker {address.shown}", "reached")
        else:
            yield _unreached(address, problem, all_of_them=not reached)
    if not reached:
        yield skipped(LOGIN, "no broker can be reached")
        return
    try:
        nodes = cluster.nodes()
    except KfdError as error:
        yield wrong(LOGIN, f"no broker lets kfd in: {error}", login_fix(str(error), properties))
        return
    number = "1 broker" if len(nodes) == 1 else f"{len(nodes)} brokers"
    yield well(LOGIN, f"{_as_whom(properties)}; {number}")
    for node in nodes:
        if node not in reached:
            yield _advertised(node)


def _unreached(address: BrokerAddress, problem: str, *, all_of_them: bool) -> Check:
    fix = "start that broker, or mend bootstrap.servers; look at the name service and firewalls too"
    made = wrong if all_of_them else doubtful
    return made(f"broker {address.shown}", problem, fix)


def _advertised(node: BrokerAddress) -> Check:
    problem = _reach(node)
    if problem is None:
        return well(f"broker {node.shown}", "advertised, reached")
    return wrong(f"broker {node.shown}", f"advertised, but {problem}", _ADVERTISED)


def _reach(address: BrokerAddress) -> str | None:
    """Why it can't be connected to; None if it can."""
    begun = time.monotonic()
    try:
        with socket.create_connection((address.host, address.port), CONNECT_SECONDS):
            return None
    except socket.gaierror as error:
        return f"its name is not known here: {error.strerror}"
    except TimeoutError:
        return f"no answer within {time.monotonic() - begun:.0f} s"
    except OSError as error:
        return f"no connection: {error.strerror or error}"


def login_fix(reason: str, properties: Mapping[str, str]) -> str:
    """What to do about a client that isn't let in, by what it said."""
    protocol = properties.get("security.protocol", "plaintext")
    if _REFUSED.search(reason):
        return _MEND_SASL
    if _OTHER_PROTOCOL.search(reason):
        return f"security.protocol is {protocol}: is that what this port speaks? Look at its log"
    if _SASL.search(reason):
        return _MEND_SASL
    if _TLS.search(reason):
        return "mend ssl.ca.location and the other ssl. properties in kafka:, then restart kfd"
    return "look at the broker's log; compare kafka: with what its administrator says"


def _as_whom(properties: Mapping[str, str]) -> str:
    protocol = properties.get("security.protocol", "plaintext").lower()
    user = properties.get("sasl.username", "")
    return f"let in by {protocol}" + (f" as {user}" if user and "sasl" in protocol else "")


def addresses(servers: str) -> Iterator[BrokerAddress]:
    """What ``bootstrap.servers`` names; ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT``, also after
    ``PROTOCOL://``."""
    for one in servers.split(","):
        text = one.strip().partition("://")[2] or one.strip()
        if text:
            host, port = split_address(text)
            yield BrokerAddress(host, port)


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST[:PORT]``. Raises :class:`ValueError`."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^:\[\]\s]+))(?::([0-9]{1,5}))?", text)
    if found is None or not 0 < int(found[3] or DEFAULT_PORT) < 65536:
        raise ValueError(text)
    return found[1] or found[2], int(found[3] or DEFAULT_PORT)
