"""Which rows are wrong where errors don't tell: those alone; none where the table takes none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.daemon.catalogue.halving import MOST_FAILURES, Blame, Halving

BLAMES = {"wrong": Blame.ROWS, "no": Blame.UNCLEAR, "away": Blame.ELSE}


class Table:
    """Takes rows but those that are wrong, for a reason that is clear or not."""

    def __init__(self, wrong: dict[int, str], *, takes_others: bool | None = None) -> None:
        self.rows: list[int] = []
        self.wrong = wrong
        self.tries = 0
        self.takes_others = takes_others

    def put(self, rows: Sequence[int]) -> None:
        self.tries += 1
        for row in rows:
            if row in self.wrong:
                raise ValueError(self.wrong[row])
        self.rows += rows

    def refused(self, *pieces: Sequence[int]) -> list[int]:
        halving = Halving[int](
            self.put, lambda error: BLAMES[str(error)], lambda _: self.takes_others
        )
        return [row for row, _ in halving.put(pieces)]


reasons = st.dictionaries(st.integers(0, 40), st.sampled_from(["wrong", "no"]), max_size=8)


@given(reasons, st.lists(st.integers(0, 41), unique=True, max_size=3).map(sorted))
def test_those_that_are_wrong_and_no_others(wrong: dict[int, str], cuts: list[int]) -> None:
    table = Table(wrong)
    ends = [0, *cuts, 41]
    pieces = [range(*ends[at : at + 2]) for at in range(len(ends) - 1)]
    assert sorted(table.refused(*pieces)) == sorted(wrong)
    assert sorted(table.rows) == [row for row in range(41) if row not in wrong]


def test_a_table_that_takes_nothing_refuses_no_row() -> None:
    table = Table(dict.fromkeys(range(1000), "no"))
    with pytest.raises(ValueError, match="no"):
        table.refused(range(1000))
    assert table.tries == MOST_FAILURES


@pytest.mark.parametrize("rows", [1, 3])
def test_a_few_that_are_not_taken_alone_are_not_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="no"):
        Table(dict.fromkeys(range(rows), "no")).refused(range(rows))


def test_all_are_refused_where_others_would_be_taken() -> None:
    table = Table(dict.fromkeys(range(100), "no"), takes_others=True)
    assert table.refused(range(100)) == list(range(100))


def test_what_was_taken_may_have_been_there_before() -> None:
    """So the table is asked once more."""
    with pytest.raises(ValueError, match="no"):
        Table({1: "no"}, takes_others=False).refused(range(9))


@pytest.mark.parametrize("wrong", [20, 75])
def test_many_wrong_ones_at_the_head_do_not_keep_the_others(wrong: int) -> None:
    table = Table(dict.fromkeys(range(wrong), "no"))
    assert sorted(table.refused(range(100))) == list(range(wrong))
    assert sorted(table.rows) == list(range(wrong, 100))


def test_what_is_clear_needs_no_proof() -> None:
    assert Table({0: "wrong", 1: "wrong"}).refused(range(2)) == [0, 1]


def test_a_server_that_goes_away_is_no_fault_of_rows() -> None:
    with pytest.raises(ValueError, match="away"):
        Table({3: "no", 7: "away"}).refused(range(9))


def test_nothing() -> None:
    assert Table({}).refused([], []) == []
