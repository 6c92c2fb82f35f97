"""Junk, tampered, doubled, shuffled and replayed records among good ones."""

from __future__ import annotations

import random

import pytest

from tests.faults.frame import Figures
from tests.faults.judge import Judge
from tests.faults.tape import Tape, paths
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.records import Sender
from tests.support import eventually

SPARE = 20 << 20  # bytes of memory that a flood of records may cost


@pytest.mark.fault(number=15, name="bad-records", rounds=100_000, short=1_000)
def test_bad_records_among_good_ones(
    make_host: MakeHost, sender: Sender, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Every good file is published, every bad record counted by its reason, to the last one."""
    source = make_host("source", receives=False)  # never runs: says which contents there may be
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    receiver.start()
    tape = Tape(sender, rng)
    expected = tape.expected
    with Judge([source], [receiver], wanted=lambda: expected.published) as judge:
        tape.play(bad=min(rounds, 2_000))  # until it has used all that it needs at all
        eventually(lambda: receiver.incoming()["lag"] == 0, 120)
        memory = receiver.rss()
        tape.play(bad=max(0, rounds - 2_000))
        source.versions.update(paths(expected.published))
        judge.all_published(300)
        eventually(lambda: receiver.incoming()["lag"] == 0, 120)
        grown = receiver.rss() - memory
        counts = {reason: (count, count) for reason, count in expected.bad.items()}
        verdict = judge.holds(bad=counts, ledgers=False)
    assert receiver.published() == expected.published
    assert receiver.terminate() == 0
    receiver.clean()
    assert grown < SPARE
    figures.add("bad records", expected.bad.total())
    figures.add("good files among them", verdict.files)
    figures.sample("MiB that the receiver grew by", grown / 2**20)
