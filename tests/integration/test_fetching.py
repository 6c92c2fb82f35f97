"""Kafka's client of a consumer thread, on a real broker."""

from __future__ import annotations

import pytest

from kfd.daemon.incoming.commits import of_topic
from kfd.daemon.incoming.fetching import Fetcher
from kfd.daemon.incoming.membership import Assignment, Membership
from kfd.daemon.incoming.pulse import Pulse
from tests.integration.records import Sender
from tests.support import eventually


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_paused_and_is_given_again_is_read(
    bootstrap: str, topic: str, sender: Sender, *, whole: bool
) -> None:
    """The client remembers the pause of a partition that was given up."""
    sender.raw([], b"record", partition=0)
    sender.flush()
    membership = Membership("in", topic, f"{topic}-readers", "me", "earliest", whole)
    assignment = Assignment(300, Pulse(300))
    fetcher = Fetcher(membership, assignment, None, {"bootstrap.servers": bootstrap}, print, print)
    try:
        partitions = [of_topic(membership, 0, 0)]
        fetcher.read(partitions)
        assignment.partitions.add(0)
        eventually(lambda: fetcher.records(fetcher.poll()))
        fetcher.pause()
        fetcher.release(partitions)
        fetcher.poll_paused(0.1)
        fetcher.read(partitions)
        eventually(lambda: fetcher.records(fetcher.poll()))
    finally:
        fetcher.close()
