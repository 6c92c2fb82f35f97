"""One thread of a process that stands still, while the others run: as a stage that hangs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17  # linux/ptrace.h
_EVERY_CHILD = 0x40000000  # __WALL: threads, too
_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def thread_of(pid: int, name: str) -> int:
    """The number of the thread that the kernel knows by this name."""
    (found,) = [
        int(task.name)
        for task in Path(f"/proc/{pid}/task").iterdir()
        if task.joinpath("comm").read_text().strip() == name
    ]
    return found


@contextmanager
def standing_still(thread: int) -> Iterator[Callable[[], None]]:
    """Within the block the thread runs nothing. Gives what is to be called now and then: the
    process can't end as long as nobody has heard of this thread's end."""
    _call(_SEIZE, thread)
    _call(_INTERRUPT, thread)
    os.waitpid(thread, _EVERY_CHILD)  # now it stands
    ended = False

    def hear() -> None:
        nonlocal ended
        if ended:
            return
        try:
            number, status = os.waitpid(thread, os.WNOHANG | _EVERY_CHILD)
        except ChildProcessError:
            ended = True
        else:
            ended = number == thread and not os.WIFSTOPPED(status)

    try:
        yield hear
    finally:
        with suppress(OSError):
            _call(_DETACH, thread)


def _call(request: int, thread: int) -> None:
    if _ptrace(request, thread, None, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
