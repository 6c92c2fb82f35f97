"""A full screen of a terminal: drawn over and over, given back as it was."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Sequence

from kfd.ctl.render import cut

_ENTER = "\x1b[?1049h\x1b[?25l"  # another screen, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """Within ``with``, the terminal that stdout is. Keys are read where stdin is one, too."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else -1
        self._saved = termios.tcgetattr(self._keys) if self._keys >= 0 else None
        self._resized, self._wakeup = socket.socketpair()

    def __enter__(self) -> Screen:
        if self._keys >= 0:
            tty.setcbreak(self._keys)  # keys at once, and no echo; Ctrl-C works
        self._wakeup.setblocking(False)
        self._old_handler = signal.signal(signal.SIGWINCH, lambda *_: None)
        self._old_wakeup = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        _write(_ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        _write(_LEAVE)
        signal.set_wakeup_fd(self._old_wakeup)
        signal.signal(signal.SIGWINCH, self._old_handler)
        if self._saved is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)
        self._resized.close()
        self._wakeup.close()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        size = os.get_terminal_size(sys.stdout.fileno())
        return size.columns or 80, size.lines or 24  # a terminal may not know

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, cut to what fits."""
        columns, rows = self.size
        shown = [cut(line, columns) for line in lines[:rows]]
        _write("\x1b[H" + "\n".join(f"{line}\x1b[K" for line in shown) + "\x1b[J")

    def wait(self, seconds: float) -> str:
        """The key that was pressed meanwhile; empty for none, or if the size has changed."""
        sources = [self._resized, *([self._keys] if self._keys >= 0 else [])]
        ready = select.select(sources, [], [], seconds)[0]
        if self._resized in ready:
            self._resized.recv(1024)
        if self._keys in ready:
            return os.read(self._keys, 64).decode(errors="replace")
        return ""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
