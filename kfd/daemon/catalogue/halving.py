"""Which of many rows are wrong: what isn't taken together is tried in halves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST_FAILURES: Final = 30  # while nothing at all is taken: then it is the table


class Blame(Enum):
    """What an error is due to."""

    ROWS = auto()  # others, or fewer, would have been taken
    UNCLEAR = auto()  # the rows, or the table, which takes none
    ELSE = auto()  # the connection, the server: whatever is given to it


class Halving(Generic[T]):
    """Puts pieces of rows somewhere. A row that is refused for a reason that isn't clear is wrong
    if others are taken; if none is, nothing is said of any row."""

    def __init__(
        self,
        put: Callable[[Sequence[T]], None],
        blame: Callable[[Exception], Blame],
        takes_others: Callable[[T], bool | None],
    ) -> None:
        """``put`` does all of a piece or nothing, and changes nothing by what is there already;
        ``takes_others``: whether a row would be taken that is none of those given; None where
        nobody can tell."""
        self._put = put
        self._blame = blame
        self._takes_others = takes_others
        self._taken = False  # something was, so the table is in order
        self._failures = 0  # for a reason that isn't clear, before that
        self._doubt: Exception | None = None  # the first of these with a row alone
        self._unclear: tuple[T, Exception] | None = None  # the last row that is wrong so
        self._wrong: list[tuple[T, Exception]] = []

    def put(self, pieces: Iterable[Sequence[T]]) -> list[tuple[T, Exception]]:
        """Those that are wrong, with the reasons; all others are there. To be called once. Raises
        the error of a piece where it isn't clear that rows are wrong."""
        pending = deque(piece for piece in pieces if piece)
        alone = False
        while pending:
            # where the first rows are all wrong, something is taken sooner from the other end
            doubtful = alone and self._doubt is not None and not self._taken
            piece = pending.pop() if doubtful else pending.popleft()
            alone = len(piece) == 1
            if not self._try(piece) and not alone:
                half = len(piece) // 2
                pending.extendleft([piece[half:], piece[:half]])
        self._check_table()
        return self._wrong

    def _check_table(self) -> None:
        """It may take none any more, and what was taken have been there before."""
        if self._doubt is not None and not self._taken:
            raise self._doubt
        if self._unclear is not None and self._takes_others(self._unclear[0]) is False:
            raise self._unclear[1]

    def _try(self, piece: Sequence[T]) -> bool:
        try:
            self._put(piece)
        except Exception as error:  # noqa: BLE001 - a driver may raise what it likes
            self._judge(piece, error)
            return False
        self._taken = True
        return True

    def _judge(self, piece: Sequence[T], error: Exception) -> None:
        blame = self._blame(error)
        if blame is Blame.ELSE:
            raise error
        if blame is Blame.UNCLEAR and not self._taken:
            self._suspect(piece, error)
        if len(piece) == 1:
            self._wrong.append((piece[0], error))
            if blame is Blame.UNCLEAR:
                self._unclear = self._wrong[-1]

    def _suspect(self, piece: Sequence[T], error: Exception) -> None:
        """Nothing has been taken yet: look whether anything is."""
        self._failures += 1
        if len(piece) == 1:
            self._doubt = self._doubt or error
            self._taken = bool(self._takes_others(piece[0]))
        if not self._taken and self._failures >= MOST_FAILURES:
            raise error
