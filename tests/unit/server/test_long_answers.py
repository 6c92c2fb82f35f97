"""What answers of many rows may take together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from kfd.control import State, Until, WaitParameters
from kfd.control.catalogue import WaitForCatalogueParameters, WaitForCatalogueReply
from kfd.control.events import EventsParameters
from kfd.control.transfers import RetryParameters
from kfd.daemon.methods import longanswers
from kfd.daemon.methods.calls import Caller
from kfd.daemon.methods.catalogue import CatalogueMethods
from kfd.daemon.methods.changes import Changes
from kfd.daemon.methods.events import EventMethods
from kfd.daemon.methods.longanswers import AT_ONCE, AT_ONCE_OF_A_USER, SHORT, LongAnswers
from kfd.daemon.methods.transfers import TransferMethods
from kfd.daemon.peer import Access
from kfd.errors import KfdError, NotPermittedError
from kfd.varlink import Reply
from tests.control import MemoryOperations, event, transfer


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


MANY = [f"{number:032x}" for number in range(SHORT + 1)]
STREAMS = {
    "Wait": WaitParameters(MANY, Until.DELIVERED),
    "Events": EventsParameters(SHORT + 1),
    "Retry": RetryParameters(failed=True),
    "WaitForCatalogue": WaitForCatalogueParameters(MANY),
}


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> LongAnswers:
    """That of the methods in ``ask``, in which nobody waits."""
    monkeypatch.setattr(longanswers, "_PATIENCE", 0.0)
    return LongAnswers()


@pytest.fixture
def busy() -> MemoryOperations:
    """With more than a short answer holds, for each method."""
    operations = MemoryOperations()
    operations.known |= {tid: transfer(tid, state=State.FAILED) for tid in MANY[1:]}
    operations.known[MANY[0]] = transfer(MANY[0], state=State.SENDING)
    left = [MANY, []]
    operations.added = lambda *_: WaitForCatalogueReply(left.pop(0), [])  # type: ignore[method-assign]
    return operations


def ask(
    method: str, operations: MemoryOperations, long: LongAnswers, gone: Callable[[], bool]
) -> Iterator[Reply]:
    changes = Changes(operations.wait_for_change, threading.Event())
    handlers = {
        **EventMethods(operations, changes, long).handlers(),
        **TransferMethods(operations, changes, long).handlers(),
        **CatalogueMethods(operations, changes, long).handlers(),
    }
    return handlers[method](STREAMS[method], replace(caller(9), more=True, gone=gone))


@pytest.mark.parametrize("method", STREAMS)
def test_a_long_first_answer_needs_room(
    method: str, busy: MemoryOperations, long: LongAnswers
) -> None:
    with ExitStack() as stack:
        fill(stack, long)
        with pytest.raises(KfdError, match="other long answers"):
            next(ask(method, busy, long, lambda: False))
    assert next(ask(method, busy, long, lambda: False)).continues


@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_goes_on_when_others_have_theirs(
    method: str, busy: MemoryOperations, long: LongAnswers
) -> None:
    """What there is to be told after the first answer finds no room, and is told a look later."""
    others = ExitStack()
    looks: list[Callable[[], None]] = []  # what comes before each

    def gone() -> bool:
        if looks:
            looks.pop(0)()
        return False

    replies = ask(method, busy, long, gone)
    next(replies)
    looks += [lambda: fill(others, long), others.close]
    busy.update(MANY[0], state=State.DELIVERED)
    busy.happened += [event(tid) for tid in MANY]
    next(replies)
    assert not looks
