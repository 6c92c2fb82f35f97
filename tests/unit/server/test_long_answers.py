"""What answers of many rows may take together."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from kfd.daemon.methods import longanswers
from kfd.daemon.methods.calls import Caller
from kfd.daemon.methods.longanswers import AT_ONCE, AT_ONCE_OF_A_USER, SHORT, LongAnswers
from kfd.daemon.peer import Access
from kfd.errors import KfdError, NotPermittedError


def caller(uid: int, access: Access = Access.MEMBER) -> Caller:
    return Caller(
        uid=uid,
        access=access,
        refusal=lambda: NotPermittedError("no"),
        descriptors=(),
        more=False,
        gone=lambda: False,
        rest=lambda: None,
    )


def fill(stack: ExitStack, room: LongAnswers) -> None:
    """By users 1 and 2, and so on."""
    for number in range(AT_ONCE):
        user = caller(1 + number // AT_ONCE_OF_A_USER)
        stack.enter_context(room.room(SHORT + 1, user))


def test_one_user_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longanswers, "_PATIENCE", 0.0)
    room = LongAnswers()
    with ExitStack() as stack:
        for _ in range(AT_ONCE_OF_A_USER):
            stack.enter_context(room.room(SHORT + 1, caller(1)))
        with pytest.raises(KfdError, match="other long answers"), room.room(SHORT + 1, caller(1)):
            pass
        with room.room(SHORT + 1, caller(2)):
            pass


def test_short_answers_and_the_owners_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longanswers, "_PATIENCE", 0.0)
    room = LongAnswers()
    with ExitStack() as stack:
        fill(stack, room)
        with pytest.raises(KfdError, match="other long answers"), room.room(SHORT + 1, caller(9)):
            pass
        with room.room(SHORT, caller(9)), room.room(10_000, caller(0, Access.OWNER)):
            pass
    with room.room(SHORT + 1, caller(9)):
        pass


def test_who_comes_later_has_it_when_one_is_sent() -> None:
    room = LongAnswers()
    came = threading.Event()

    def come() -> None:
        with room.room(SHORT + 1, caller(9)):
            came.set()

    with ExitStack() as stack:
        fill(stack, room)
        waiting = threading.Thread(target=come, name="late")
        waiting.start()
        stack.pop_all().close()
    waiting.join()
    assert came.is_set()
