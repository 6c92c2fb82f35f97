"""A transfer that was begun and never comes to its end: closed after a while, counted, and told."""

from __future__ import annotations

import os
from typing import Any

import msgpack

from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness
from tests.integration.records import INSTANCE, Crafted, Sender, read_topic
from tests.support import eventually

SOON = {"incomplete_timeout": "3s"}


def told(bootstrap: str, topic: str) -> list[tuple[bytes | None, bytes, str, str]]:
    """Key, tid, outcome and reason of every receipt about the files on a topic."""
    found = []
    for message in read_topic(bootstrap, f"{topic}.receipts"):
        _, _, _, receipts = msgpack.unpackb(message.value())
        found += [(message.key(), tid, outcome, why) for tid, outcome, _, _, why in receipts]
    return found


def expired(host: Host) -> list[dict[str, Any]]:
    return [one for one in host.transfers("download") if one["state"] == "expired"]


def test_transfer_of_which_nothing_more_comes_is_closed_and_told(
    make_host: MakeHost, sender: Sender, bootstrap: str, topic: str
) -> None:
    receiver = make_host("receiver", sends=False, pools=ONE_READER, download=SOON)
    receiver.start()
    begun = Crafted(topic, b"begun", os.urandom(200_000))
    records = list(begun.records())
    for array, value in records[:2]:
        sender.record(array, value)
    sender.file(b"later")
    receiver.receives("later")
    eventually(lambda: expired(receiver), every=0.2)
    assert receiver.states("download") == {("begun", "expired"): 1, ("later", "published"): 1}
    (one,) = expired(receiver)
    assert one["reason"].startswith("nothing more of it came for ")
    assert receiver.incoming()["bad"] == {"expired": 1}
    receiver.clean()
    key = INSTANCE.hex().encode()
    eventually(
        lambda: (key, begun.tid, "expired", one["reason"]) in told(bootstrap, topic), every=0.2
    )
    for array, value in records[2:]:  # too late
        sender.record(array, value)
    sender.file(b"last")
    receiver.receives("last")
    assert set(receiver.published()) == {b"later", b"last"}
    assert receiver.terminate() == 0


def test_sender_that_comes_back_too_late_sends_the_file_again(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    sender = make_host("sender", receives=False, upload={"rate_limit": "4MiB"}, chunk_size="64KiB")
    receiver = make_host("receiver", sends=False, pools=ONE_READER, download=SOON)
    receiver.start()
    sender.put("large", os.urandom(24 << 20))
    sender.start()
    with Witness(receiver.down) as witness:
        eventually(lambda: any(one["done"] > 1 << 20 for one in under_way(receiver)), every=0.1)
        sender.kill9()
        eventually(lambda: expired(receiver), every=0.2)
        sender.start()
        sender.delivers("large", deadline=120)
    witness.saw_only(sender.versions)
    assert receiver.published() == sender.sources()
    assert sender.states("upload") == {("large", "cancelled"): 1, ("large", "delivered"): 1}
    (first,) = expired(receiver)
    assert (bytes.fromhex(first["tid"]), "expired") in {
        (tid, outcome) for _, tid, outcome, _ in told(bootstrap, topic)
    }


def under_way(host: Host) -> list[dict[str, Any]]:
    return [one for one in host.transfers("download") if one["state"] == "receiving"]
