"""Headers that Kafka's Python client can't show, read by a consumer that has read much before.

By then the interpreter has specialized its calls, and what the client raises comes up elsewhere.
"""

from __future__ import annotations

from tests.integration.host import Host
from tests.integration.records import Sender


def test_a_consumer_goes_on(receiver: Host, sender: Sender) -> None:
    for number in range(300):
        sender.raw([("other", b"?")], f"line {number}".encode())
    sender.flush()
    sender.file(b"before")
    receiver.receives("before")
    sender.unnameable()
    sender.file(b"after")
    receiver.receives("after")
    assert receiver.running
    assert receiver.incoming()["bad"]["foreign"] == 301
