"""What this process, which the control server is part of, holds: descriptors and threads."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path


def opened(stack: ExitStack, path: Path, flags: int = os.O_RDONLY) -> int:
    descriptor = os.open(path, flags)
    stack.callback(os.close, descriptor)
    return descriptor


def open_files() -> set[tuple[str, str]]:
    """The descriptors of this process, which is the server's too, and what they are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def open_on(path: Path) -> int:
    return sum(target == str(path) for _, target in open_files())


def connection_threads() -> int:
    return sum(thread.name.startswith("control-") for thread in threading.enumerate())
