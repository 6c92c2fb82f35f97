"""A daemon in a process of its own, which has work left until it is told otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

from kfd.daemon.operations import DrainProgress
from tests.control import MemoryOperations, serving
from tests.unit.ctl.kfdctl import DEADLINE


def serve_until_told(path: Path) -> None:
    """The other process: three transfers are left until a line comes in."""
    operations = MemoryOperations()
    operations.left = DrainProgress(3, 612 << 20)
    with serving(path, operations):
        print("ready", flush=True)
        sys.stdin.readline()
        operations.set_left(0, 0)
        operations.stopped.wait(DEADLINE)


if __name__ == "__main__":
    serve_until_told(Path(sys.argv[1]))
