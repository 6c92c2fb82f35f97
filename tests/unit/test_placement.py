"""Which partition a path gets."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon.outgoing.placement import RUN_BYTES, Placement


def test_least_loaded_partition_is_chosen() -> None:
    placement = Placement("id", 4)
    for partition, size in enumerate([RUN_BYTES + 5, 1, 9, 5]):
        placement.add(partition, size)
    assert placement.choose(None, None) == 1
    placement.add(1, RUN_BYTES)
    placement.add(2, -9)
    assert placement.choose(None, None) == 2


def test_small_files_stay_together_until_they_fill_a_batch() -> None:
    placement = Placement("id", 5)
    chosen = []
    for _ in range(100):
        chosen.append(placement.choose(None, None))
        placement.add(chosen[-1], RUN_BYTES // 10)
    assert Counter(chosen) == dict.fromkeys(range(5), 20)
    assert len([one for one, next_one in pairwise(chosen) if one != next_one]) == 9


@given(st.integers(1, 3000), st.data())
def test_partition_of_a_path_is_kept_for_its_topic(partitions: int, data: st.DataObject) -> None:
    placement = Placement("id", partitions)
    had = data.draw(st.integers(0, partitions + 10))
    assert placement.choose("id", had) == had
    assert 0 <= placement.choose("another", had) < partitions
    assert 0 <= placement.choose(None, None) < partitions
    placement.add(had, 10)  # more than there are: the topic has shrunk, or was seen so
