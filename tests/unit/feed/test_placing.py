"""The partition of a path is chosen once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kfd.daemon.ledger import Ledger
from kfd.daemon.outgoing import placement
from kfd.kafka import Topic
from tests.parts import running, version
from tests.unit.feed.feeding import CHUNK, PARTITIONS, TOPIC, Feeding, feeding, large, small


def test_versions_of_a_path_lie_in_one_partition(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "RUN_BYTES", 1)
    with feeding(ledger) as one:
        seen: dict[bytes, set[int]] = {}
        for size in (10, 20, 5 * CHUNK, 30):
            files = [version(b"%d" % n, size=size + n) for n in range(30)]
            one.accept(*files)
            for sending in one.serve_all():
                seen.setdefault(sending.row.path, set()).add(sending.partition)
        assert {len(partitions) for partitions in seen.values()} == {1}
        assert len({partition for some in seen.values() for partition in some}) == PARTITIONS


def test_two_versions_in_one_claim_lie_in_one_partition(ledger: Ledger) -> None:
    one = Feeding(ledger, 3)
    one.feed.add_lane("lab", "t")
    for n in range(10):  # other sources: none gives way
        one.accept(version(b"x", size=10, source=b"/%d" % n, inode=100 + n))
    one.show(TOPIC)
    with running(one.feed):
        turn = one.take()
        assert len(turn.sendings) == 10
        assert len({sending.partition for sending in turn.sendings}) == 1


def test_more_partitions_move_no_path(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(50)))
        before = {sent.row.path: sent.partition for sent in one.serve_all()}
        one.show(replace(TOPIC, partitions=50))
        one.accept(*(version(path, size=11) for path in before))
        after = {sent.row.path: sent.partition for sent in one.serve_all()}
        assert after == before


def test_topic_made_again_is_placed_anew(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(20)))
        assert list(one.serve_all())
        one.show(Topic("t", "topic-2", 1))
        one.accept(*(version(b"small/%d" % n, size=11) for n in range(20)))
        assert {sending.partition for sending in one.serve_all()} == {0}


def test_ended_transfers_weigh_on_no_partition(ledger: Ledger) -> None:
    with feeding(ledger) as one:
        one.accept(*(small(n) for n in range(600)), *(large(n, 9) for n in range(5)))
        assert list(one.serve_all())
        assert one.feed._placements["t"]._load == [0] * PARTITIONS
