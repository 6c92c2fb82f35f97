"""What a method gets and gives: who calls, and the replies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfd.daemon.peer import Access
from kfd.errors import NotPermittedError
from kfd.marshal import MismatchError, to_json
from kfd.varlink import Reply

MOST_TIDS = 2000  # in one call; whole ones, no more fit a request

_TID = re.compile(r"[0-9a-f]{8}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, how, and with what. ``gone`` tells whether that one has hung up."""

    uid: int
    access: Access
    refusal: Callable[[], NotPermittedError]  # for one who may not use the socket at all
    descriptors: Sequence[int]
    more: bool
    gone: Callable[[], bool]
    rest: Callable[[], None]  # to be called now and then in what goes on for long

    @property
    def owner(self) -> bool:
        """Whether that is root or the daemon's user, who may do all."""
        return self.access is Access.OWNER

    def must_own(self, deed: str) -> None:
        """Refuse all but the owners; ``deed`` is what they may do: "stop kfd"."""
        if not self.owner:
            raise NotPermittedError(f"only root and the daemon's user may {deed}", fix="use sudo")


Handler = Callable[[Any, Caller], Iterator[Reply]]
"""Answers a method: gets its parameters, of its class in ``kfd.control``, and gives replies."""

Handlers = Mapping[str, Handler]


def reply(parameters: object, *, continues: bool = False) -> Reply:
    """The reply with these parameters, of a class in ``kfd.control``."""
    return Reply(to_json(parameters), continues)


def check_tids(tids: Sequence[str], *, whole: bool = False) -> None:
    """Raise :class:`MismatchError` for what can't be the ids of transfers, or the whole of them."""
    if not tids:
        raise MismatchError("tids", "is empty")
    if len(tids) > MOST_TIDS:
        raise MismatchError("tids", f"at most {MOST_TIDS} are expected")
    for at, tid in enumerate(tids):
        if _TID.fullmatch(tid) is None:
            raise MismatchError(f"tids[{at}]", "32 hex digits, or the last 8, are expected")
        if whole and len(tid) != 32:
            raise MismatchError(f"tids[{at}]", "32 hex digits are expected")
